//! From nothing to a daemon that can run: `init`, `login`, `sandbox`, `notify --test`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::skipped::skipped_by_machine;
use super::stage::{Options, Stage, TOKEN};

/// Runs a command with answers on its standard input, and returns its exit code, its output and its messages.
fn answered(mut command: Command, answers: &[u8]) -> (Option<i32>, String, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // It may refuse before it reads.
    child.stdin.take().expect("piped").write_all(answers).unwrap_or(());
    told(&child.wait_with_output().expect("it ends"))
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).expect("it is there").permissions().mode() & 0o777
}

fn program(command: &str, config: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_dropferry"));
    program.args([command, "--config"]).arg(config);
    program
}

#[test]
fn answers_become_a_configuration_that_works_and_a_token_that_nobody_else_reads() {
    let stage = Stage::new(Options::default());
    let config = stage.path("new/config.toml");
    let address = &stage.address;
    let (drop, shown) = (stage.drop(), stage.drop().display().to_string());
    let answers =
        format!("sevenbridges\nhttp://{address}/v2\nlab/demo\n{TOKEN}\n{shown}\nillumina\n");
    let (code, _, said) = answered(program("init", &config), answers.as_bytes());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("may write to lab/demo (as lab)"), "{said}");
    assert!(!said.contains(TOKEN), "{said}");
    let token = stage.path("new/sevenbridges.token");
    assert_eq!((mode(&token), fs::read_to_string(&token).expect("read").trim()), (0o600, TOKEN));
    let text = fs::read_to_string(&config).expect("read");
    assert!(text.contains("profile = \"illumina\"") && !text.contains(TOKEN), "{text}");
    let (code, printed, said) = told(&program("check-config", &config).output().expect("it runs"));
    assert_eq!(code, Some(0), "{printed}{said}");
    let (code, _, said) = answered(program("init", &config), answers.as_bytes());
    assert_eq!((code, said.contains("already")), (Some(1), true), "{said}");
    // The packages' own file configures nothing yet, and is extended.
    let packaged = stage.path("packaged.toml");
    fs::write(&packaged, "[transfer]\nbandwidth = \"7 MB/s\"\n").expect("written");
    let (code, _, said) = answered(program("init", &packaged), answers.as_bytes());
    assert_eq!(code, Some(0), "{said}");
    let text = fs::read_to_string(&packaged).expect("read");
    assert!(text.contains("7 MB/s") && text.contains("[destinations.sevenbridges]"), "{text}");
    assert!(drop.is_dir());
}

#[test]
fn an_answer_that_cannot_be_used_is_named_and_nothing_is_written() {
    let stage = Stage::new(Options::default());
    let config = stage.path("new/config.toml");
    for (answers, named) in [
        ("cavatika\n", "did you mean \"cavatica\"?"),
        ("", "standard input ends before the answer"),
        ("cavatica\nlab/demo\n\"0123456789\"\n", "it is in quotes"),
        ("cavatica\nlab/demo\n0123456789\n/nowhere/at/all\n", "make it first"),
    ] {
        let (code, _, said) = answered(program("init", &config), answers.as_bytes());
        assert_eq!((code, said.contains(named)), (Some(1), true), "{said}");
        assert!(!config.exists());
    }
}

#[test]
fn a_token_is_stored_where_the_configuration_says_and_one_that_is_refused_is_not() {
    let stage = Stage::new(Options::default());
    let token = stage.path("sandbox.token");
    let before = || fs::read_to_string(&token).expect("read");
    let login = || {
        let mut login = stage.command("login");
        login.arg("to-sevenbridges");
        login
    };
    stage.write_token("ffffffffffffffffffffffffffffffff");
    let (code, printed, said) = answered(login(), format!("{TOKEN}\r\n").as_bytes());
    assert_eq!((code, printed.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("to-sevenbridges: the credential is accepted"), "{said}");
    assert!(said.contains("(as lab)"), "{said}");
    assert_eq!((mode(&token), before().trim()), (0o600, TOKEN));
    let utf16: Vec<u8> = TOKEN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // {"exp":1500000000}
    let ended = b"eyJhbGciOiJub25lIn0.eyJleHAiOjE1MDAwMDAwMDB9.c2ln";
    for (wrong, named) in [
        (b"".to_vec(), "it is empty"),
        (format!("\u{feff}{TOKEN}").into_bytes(), "byte order mark"),
        (format!("\"{TOKEN}\"").into_bytes(), "quotes"),
        (format!("{TOKEN}\n{TOKEN}\n").into_bytes(), "several lines"),
        (format!("Bearer {TOKEN}").into_bytes(), "Bearer"),
        (utf16, "UTF-16"),
        (ended.to_vec(), "ended at 2017-07-14"),
        (b"00000000000000000000000000000000".to_vec(), "does not take this credential"),
    ] {
        let (code, printed, said) = answered(login(), &wrong);
        assert_eq!((code, printed.as_str()), (Some(1), ""), "{said}");
        assert!(said.contains(named) && !said.contains(TOKEN), "{said}");
        assert_eq!(before().trim(), TOKEN, "{said}");
    }
    let beside = fs::read_dir(stage.path("")).expect("listed").filter_map(Result::ok);
    let left: Vec<_> = beside.map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.as_encoded_bytes().starts_with(b".")), "{left:?}");
}

#[test]
fn a_platform_that_is_not_configured_gets_a_file_and_the_line_for_it() {
    let stage = Stage::new(Options::default());
    let file = stage.path("keys.s3");
    let mut login = program("login", &stage.path("none.toml"));
    login.args(["s3", "--output"]).arg(&file);
    let (code, printed, said) = answered(login, b"AKIDEXAMPLE\nwJalrXUtnFEMI\n");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(printed.trim(), format!("credential = {{ file = \"{}\" }}", file.display()));
    let keys = fs::read_to_string(&file).expect("read");
    let wanted =
        "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalrXUtnFEMI\n";
    assert_eq!((keys.as_str(), mode(&file)), (wanted, 0o600));
    let (code, _, said) = answered(program("login", &stage.path("none.toml")), b"");
    assert_eq!(code, Some(2), "{said}");
    let mut login = program("login", &stage.path("config.toml"));
    login.arg("basespase");
    let (code, _, said) = answered(login, b"");
    assert_eq!((code, said.contains("did you mean \"basespace\"?")), (Some(1), true), "{said}");
}

#[test]
fn the_sandbox_leaves_a_configuration_that_can_be_used_as_it_is() {
    let stage = Stage::new(Options::default());
    let config = stage.path("sandbox/config.toml");
    let mut check = program("check-config", &config);
    let (code, printed, said) = told(&check.arg("--online").output().expect("it runs"));
    assert_eq!(code, Some(0), "{printed}{said}");
    assert_eq!(printed.matches("the credential is accepted").count(), 4, "{printed}");
    assert_eq!(mode(&stage.path("sandbox/sandbox.token")), 0o600);
    assert_eq!(mode(&stage.path("sandbox/sandbox.s3")), 0o600);
}

#[test]
fn what_root_may_read_and_the_service_may_not_is_found() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return skipped_by_machine("only root can judge as another user");
    }
    let stage = Stage::new(Options::default());
    fs::set_permissions(stage.path("."), fs::Permissions::from_mode(0o755)).expect("set");
    fs::create_dir(stage.path("state")).expect("made");
    fs::set_permissions(stage.path("state"), fs::Permissions::from_mode(0o750)).expect("set");
    let give = |name: &str, user: u32| {
        std::os::unix::fs::chown(stage.path(name), Some(user), Some(user)).expect("given");
    };
    ["state", "config.toml", "sandbox.token"].iter().for_each(|name| give(name, NOBODY));
    let config = stage.path("config.toml");
    let check = || told(&program("check-config", &config).output().expect("it runs"));
    let (code, printed, said) = check();
    assert_eq!(code, Some(0), "{printed}{said}");
    assert!(said.contains("checked as the daemon's user, nobody (65534)"), "{said}");
    give("sandbox.token", 0);
    let (code, _, said) = check();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("belongs to root (0), and nobody (65534) may not read it"), "{said}");
    give("sandbox.token", NOBODY);
    fs::set_permissions(stage.drop(), fs::Permissions::from_mode(0o700)).expect("set");
    let (code, _, said) = check();
    assert_eq!(
        (code, said.contains("may not be read by nobody (65534)")),
        (Some(3), true),
        "{said}"
    );
}
