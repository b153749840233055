//! Keys that come from elsewhere: a profile of AWS's tools, and what it names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::stage::{Options, Stage, TOKEN, noise, until};

/// A stage whose keys come from a program, which notes that it was run and gives them for a while.
fn with_a_program(life_s: u32, options: Options) -> Stage {
    let stage = Stage::new(Options { platforms: &["s3"], ..options });
    let program = format!(
        "#!/bin/sh\necho x >> {0}\nprintf '{{\"Version\":1,\"AccessKeyId\":\"SANDBOX\",\
         \"SecretAccessKey\":\"{TOKEN}\",\"Expiration\":\"%s\"}}' \
         \"$(date -u -d '+{life_s} seconds' +%Y-%m-%dT%H:%M:%SZ)\"\n",
        stage.path("runs.log").display()
    );
    fs::write(stage.path("keys"), program).expect("written");
    fs::set_permissions(stage.path("keys"), fs::Permissions::from_mode(0o700)).expect("set");
    let config = format!(
        "[profile lab]\ncredential_process = {} --from 'the lab'\n",
        stage.path("keys").display()
    );
    fs::write(stage.path("aws.config"), config).expect("written");
    let text = fs::read_to_string(stage.path("config.toml")).expect("read");
    let text = text.replace("{ file = \"sandbox.s3\" }", "{ profile = \"lab\" }");
    fs::write(stage.path("config.toml"), text).expect("written");
    stage
}

fn command(stage: &Stage, command: &str) -> Command {
    let mut run = stage.command(command);
    run.env("AWS_CONFIG_FILE", stage.path("aws.config"));
    run.env("AWS_SHARED_CREDENTIALS_FILE", stage.path("aws.credentials"));
    run
}

fn run_count(stage: &Stage) -> usize {
    fs::read_to_string(stage.path("runs.log")).unwrap_or_default().lines().count()
}

#[test]
fn keys_that_end_in_the_middle_of_an_upload_are_renewed_before() {
    let transfer = "parts_in_flight = 2\nbandwidth = \"300 kB/s\"\npart_size = \"128 KiB\"";
    let mut stage = with_a_program(9, Options { transfer, ..Options::default() });
    stage.write("run/large", &noise(4 << 20, 3));
    let run = command(&stage, "run");
    stage.start_as(run);
    stage.until_count("completed", 1);
    stage.assert_all_there();
    assert!(run_count(&stage) >= 2, "the keys were fetched {} times", run_count(&stage));
    let log = stage.log();
    assert!(!log.contains(TOKEN) && !log.contains("halted"), "{log}");
}

#[test]
fn a_profile_that_holds_no_keys_does_not_start_and_one_that_does_is_taken_up() {
    let mut stage = with_a_program(3600, Options::default());
    let checked = command(&stage, "check-config").arg("--online").output().expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}");
    for line in [
        "to-s3: the credential is accepted and may write to ",
        "to-s3: put (s3:PutObject): granted",
        "to-s3: list parts (s3:ListMultipartUploadParts): granted",
        "to-s3: head (s3:GetObject): granted",
        "to-s3: abort (s3:AbortMultipartUpload): granted",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(stage.ledger_of("s3")["open_uploads"].as_array().expect("a list").is_empty());
    fs::write(stage.path("aws.config"), "[profile lab]\nregion = x\n").expect("written");
    for name in ["run", "check-config"] {
        let refused = command(&stage, name).output().expect("it runs");
        assert_eq!(refused.status.code(), Some(3), "{name}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("no role_arn, no sso_session"), "{said}");
    }
    let keys = format!("[lab]\naws_access_key_id = SANDBOX\naws_secret_access_key = {TOKEN}\n");
    fs::write(stage.path("aws.credentials"), keys).expect("written");
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(stage.path("aws.credentials"), private).expect("set");
    stage.write("run/a", b"hello");
    let run = command(&stage, "run");
    stage.start_as(run);
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

#[test]
fn what_a_storage_does_not_know_is_remembered_over_a_restart() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        destination: "tags = [\"lab=1\"]",
        transfer: "parts_in_flight = 4\npart_size = \"1 MiB\"",
        ..Options::default()
    });
    let refusals = |count: u32| {
        serde_json::json!([{"operation": "put-object", "times": count, "action": {"answer": {
            "status": 501,
            "body": "<Error><Code>NotImplemented</Code><Message>A header you provided implies \
                functionality that is not implemented: x-amz-tagging</Message></Error>",
            "headers": {"content-type": "application/xml"},
        }}}])
        .to_string()
    };
    stage.tell("faults", &refusals(1));
    stage.write("run/a", b"hello");
    stage.start();
    stage.until_count("completed", 1);
    let known = |stage: &Stage| {
        let said = stage.output("check-config", &["--online"]);
        String::from_utf8_lossy(&said.stdout).contains("it knows no tags: files are sent without")
    };
    until("it is kept in a row", || known(&stage).then_some(()));
    assert!(stage.log().contains("it knows no tags"), "{}", stage.log());
    stage.kill();
    let tagged = |stage: &Stage| stage.ledger_of("s3")["calls"]["put-object"].as_u64();
    let before = tagged(&stage);
    stage.write("run/b", b"hello again");
    stage.start();
    stage.until_count("completed", 2);
    assert!(known(&stage));
    assert!(tagged(&stage) > before);
    stage.assert_all_there();
}
