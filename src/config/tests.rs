//! The messages about wrong configurations.

use std::path::Path;

use super::*;

mod mistakes;
mod rows;

/// Checks a text beside real files, and returns the messages without the directory.
fn said(text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let keys = "[default]\naws_access_key_id = A\naws_secret_access_key = s\n";
    for (name, mode, text) in [
        ("good.token", 0o600, "t"),
        ("open.token", 0o644, "t"),
        ("t.url", 0o600, "t"),
        ("empty.token", 0o600, "\n"),
        ("good.keys", 0o600, keys),
        ("half.keys", 0o600, "[default]\naws_access_key_id = A\n"),
    ] {
        std::fs::write(place.join(name), text).expect("written");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place.join(name), mode).expect("set");
    }
    std::fs::create_dir_all(place.join("drop/inner")).expect("made");
    std::os::unix::fs::symlink("drop/inner", place.join("link")).expect("linked");
    std::fs::create_dir_all(place.join("profiles")).expect("made");
    for (name, text) in [
        ("ours", "based_on = \"nanopore\"\ncloses = [{ any_of = [[\".sync_finished\"]] }]\n"),
        ("typo", "based_on = \"illumina\"\n# a comment\nhold = []\n"),
        ("late", "based_on = \"illumina\"\nstale_after = \"soon\"\n"),
        ("mgi", "based_on = \"mgi\"\nquiet_periods = 0\n"),
    ] {
        std::fs::write(place.join(format!("profiles/{name}.toml")), text).expect("written");
    }
    let environment = |name: &str| match name {
        "HOME" => Some("/home/lab".to_owned()),
        "CREDENTIALS_DIRECTORY" => Some(place.display().to_string()),
        _ => None,
    };
    let file = place.join("config.toml");
    let parsed = Config::parse(&file, text, &environment);
    let said = parsed.map_or_else(|problems| problems.to_string(), |_| "fine".into());
    said.replace(&place.display().to_string(), "DIR")
}

const DESTINATION: &str = "[destinations.far]\nplatform = \"sevenbridges\"\n\
    base_url = \"https://api.example/v2\"\ncredential = { file = \"good.token\" }\n\
    project = \"lab/novaseq\"\n";
const DROP: &str = "[drops.lab]\ndirectory = \"drop\"\ndestinations = [\"far\"]\n";

fn with(more: &str) -> String {
    said(&format!("{DESTINATION}{DROP}{more}"))
}

#[test]
fn a_whole_configuration_is_fine() {
    assert_eq!(with("quiet_period = \"2min\"\norder = [\"*.xml\"]\n"), "fine");
    assert_eq!(said(""), "fine");
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    insta::assert_snapshot!(with("dispositon = \"delete\"\n"), @r#"
    DIR/config.toml:9: unknown key "dispositon" in [drops.lab]
    hint: did you mean "disposition"?
    "#);
    insta::assert_snapshot!(said("[transfr]\n"), @r#"
    DIR/config.toml:1: unknown table [transfr]
    hint: did you mean [transfer]?
    "#);
}

#[test]
fn a_program_that_gets_notices_is_one_of_what_there_is() {
    let fine = "[notify]\ncommand = { run = [\"/bin/sh\", \"-c\", \"true\"] }\n";
    assert_eq!(with(fine), "fine");
    let bad = "[notify]\ncommand = { run = [\"sh\"], on = [\"parkd\"] }\n";
    insta::assert_snapshot!(with(bad), @r#"
    DIR/config.toml:10: run = "sh" is not an absolute path
    hint: it is run without a shell: write it from / on
    DIR/config.toml:10: on = "parkd" is not possible
    hint: did you mean "parked"?
    "#);
    let bad = "[notify.command]\nrun = [\"/etc/passwd\"]\non = []\n";
    insta::assert_snapshot!(with(bad), @r#"
    DIR/config.toml:10: run = "/etc/passwd" is not executable
    hint: chmod +x /etc/passwd
    DIR/config.toml:11: on = [] notifies of nothing
    hint: allowed: run-completed, run-stale, parked, upload-stuck, deaf, destination-halted, destination-unreachable, credential-expiring, disk-low, receipts-damaged, gone-at-destination, replaced, report
    "#);
    insta::assert_snapshot!(with("[notify.command]\nrun = [\"/nowhere/prog\"]\n"), @r#"
    DIR/config.toml:10: run = "/nowhere/prog" is not there
    hint: name a file that is there
    "#);
    insta::assert_snapshot!(with("[notify.command]\n"), @r#"
    DIR/config.toml:9: [notify] command has no run
    hint: run = ["/usr/local/bin/PROGRAM"]
    "#);
}

#[test]
fn there_may_be_any_number_of_channels_each_of_them_checked() {
    let fine = "[notify]\nunreachable_after = \"30min\"\nstuck_after = \"2h\"\ndisk_free_min = \"50 GB\"\nreport = \"daily\"\n\
        [[notify.mail]]\nto = [\"The lab <seq@lab.example>\"]\nfrom = \"dropferry@lab.example\"\n\
        smtp = \"smtp.lab.example:587\"\ncredential = { file = \"good.token\" }\n\
        [[notify.mail]]\nname = \"night\"\nto = [\"on-call@lab.example\"]\non = [\"deaf\"]\n\
        from = \"dropferry@lab.example\"\nsmtp = \"localhost:25\"\ntls = \"none\"\n";
    assert_eq!(with(fine), "fine");
    let bad = "[notify]\nheartbeat = { every = \"5min\" }\ndisk_free_min = \"some\"\n\
        report = \"weekly\"\n\
        [[notify.webhook]]\nurl_file = \"t.url\"\nformat = \"slak\"\n\
        [[notify.webhook]]\nurl_file = \"open.token\"\nnme = \"x\"\n";
    insta::assert_snapshot!(with(bad), @r#"
    DIR/config.toml:10: [notify] heartbeat has no url_file
    hint: url_file = "hook.url": a file that holds the address alone
    DIR/config.toml:11: disk_free_min = "some" is not possible
    hint: allowed: 0% to 90%, or a size such as "50 GB"
    DIR/config.toml:12: no channel gets the report
    hint: a [notify] mail gets it unless its on leaves it out; others with "report" in on
    DIR/config.toml:14: url_file DIR/t.url: the address is not a URL
    hint: an https:// address; http:// is accepted on this machine only
    DIR/config.toml:15: format = "slak" is not possible
    hint: did you mean "slack"?
    DIR/config.toml:17: the credential DIR/open.token may be read by others (mode 644)
    hint: chmod 600 DIR/open.token
    DIR/config.toml:17: url_file DIR/open.token: the address is not a URL
    hint: an https:// address; http:// is accepted on this machine only
    DIR/config.toml:18: unknown key "nme" in [[notify.webhook]]
    hint: did you mean "name"?
    "#);
    let bad = "[notify.mail]\nto = [\"nobody\"]\nsmtp = \"far.example\"\ntls = \"none\"\n\
        credential = { file = \"good.token\" }\non = [\"parked\"]\n";
    insta::assert_snapshot!(with(bad), @r#"
    DIR/config.toml:9: [notify] mail has no from
    hint: from = "dropferry@lab.example"
    DIR/config.toml:9: a password for far.example would be sent as it is
    hint: leave out tls = "none", or the credential
    DIR/config.toml:10: "nobody" is no mail address
    hint: such as "seq@lab.example" or "The lab <seq@lab.example>"
    "#);
    let two = "[[notify.command]]\nname = \"a\"\nrun = [\"/bin/sh\"]\n\
        [[notify.command]]\nname = \"a\"\nrun = [\"/bin/sh\"]\n";
    insta::assert_snapshot!(with(two), @r#"
    DIR/config.toml:13: there are two [notify] command.a
    hint: give each a name of its own
    "#);
}

#[test]
fn a_disposition_that_would_be_seen_again_or_lead_nowhere_is_refused() {
    assert_eq!(with("disposition = \"delete\"\n"), "fine");
    insta::assert_snapshot!(with("disposition = \"move\"\n"), @r#"
    DIR/config.toml:9: disposition = "move" has no move_to
    hint: move_to = "…"
    "#);
    insta::assert_snapshot!(with("disposition = \"move\"\nmove_to = \"drop/done\"\n"), @r#"
    DIR/config.toml:10: move_to DIR/drop/done overlaps the directory
    hint: what is moved there would be seen again
    "#);
    insta::assert_snapshot!(with("move_to = \"away\"\n"), @r#"
    DIR/config.toml:9: move_to is for disposition = "move" alone
    "#);
    insta::assert_snapshot!(with("unit = \"file\"\nsentinel = \"a/b\"\n"), @r#"
    DIR/config.toml:10: sentinel = "a/b" is no file name
    hint: such as "UPLOADED.json"
    DIR/config.toml:10: sentinel needs unit = "directory"
    hint: a file that is a drop of its own has nothing to wait for
    "#);
}

#[test]
fn values_are_refused_with_what_is_allowed() {
    let text = "[transfer]\npart_size = \"10 mB\"\nparts_in_flight = 0\nbandwidth = \"fast\"\n\
        [retry]\ndelay_min = \"soon\"\n";
    insta::assert_snapshot!(said(text), @r#"
    DIR/config.toml:2: part_size = "10 mB" is no size
    hint: did you mean "10 MB"?
    DIR/config.toml:3: parts_in_flight = 0 is not possible
    hint: allowed: "auto", or a number from 1 to 256
    DIR/config.toml:4: bandwidth = "fast" is no rate
    hint: allowed: a size followed by /s, or "unlimited"
    DIR/config.toml:6: delay_min = "soon" is no duration
    hint: allowed: a number and one of ms s min h d
    "#);
    insta::assert_snapshot!(said("[transfer\n"), @"
    DIR/config.toml:1: the name of this table does not end
    hint: end it with ]
    ");
    insta::assert_snapshot!(with("priority = \"high\"\n"), @"
    DIR/config.toml:9: priority takes a whole number, and not a text
    hint: priority = 0
    ");
}

#[test]
fn destinations_are_checked() {
    let text = "[destinations.far]\nplatform = \"sevenbridges\"\nbase_url = \"http://api.example/v2\"\n\
        credential = { file = \"open.token\" }\nproject = \"lab/novaseq\"\n\
        [destinations.other]\nplatform = \"sevenbridges\"\nbase_url = \"https://api.example/v2\"\n\
        credential = { file = \"open.token\" }\nproject = \"novaseq\"\n\
        [destinations.third]\nplatform = \"sevenbridges\"\nbase_url = \"https://api.example/v2\"\n\
        credential = { file = \"open.token\" }\nproject = \"lab/novaseq\"\nwhen_name_taken = \"skip\"\n";
    insta::assert_snapshot!(said(text), @r#"
    DIR/config.toml:3: base_url = "http://api.example/v2": the address is neither https nor on this machine
    hint: an https:// address; http:// on this machine only, or at an S3 storage with allow_plain_http = true
    DIR/config.toml:4: the credential DIR/open.token may be read by others (mode 644) (also line 9 and 14)
    hint: chmod 600 DIR/open.token
    DIR/config.toml:10: project = "novaseq" is none
    hint: owner/short-name, as in the project's address
    DIR/config.toml:16: when_name_taken = "skip" is not possible
    hint: allowed: skip-if-same, overwrite, rename, park
    "#);
}

#[test]
fn each_platform_has_its_own_keys() {
    let text = "[destinations.far]\nplatform = \"sevenbridges\"\nbase_url = \"https://api.example/v2\"\n\
        credential = { file = \"good.token\" }\nbucket = \"b\"\n\
        [destinations.other]\nplatform = \"s3\"\nbase_url = \"https://s3.example\"\n\
        credential = { file = \"good.keys\" }\nbucket = \"b\"\npath_stile = true\n\
        [destinations.third]\nplatform = \"basespace\"\nbase_url = \"https://api.example/v1pre3\"\n\
        credental = { file = \"good.token\" }\nproject = \"p\"\n\
        [destinations.fourth]\nplatform = \"s33\"\n";
    insta::assert_snapshot!(said(text), @r#"
    DIR/config.toml:1: destination "far" has no project
    hint: project = "lab/novaseq"
    DIR/config.toml:5: unknown key "bucket" in [destinations.far]
    hint: allowed are: project, folder, metadata, tags, export, platform, base_url, allow_plain_http, credential, when_name_taken, when_changed, same_as, calls_per_second, part_size_min
    DIR/config.toml:11: unknown key "path_stile" in [destinations.other]
    hint: did you mean "path_style"?
    DIR/config.toml:15: unknown key "credental" in [destinations.third]
    hint: did you mean "credential"?
    DIR/config.toml:18: platform = "s33" is not possible
    hint: did you mean "s3"?
    "#);
    let export = format!("{DESTINATION}[destinations.far.export]\nvolum = \"lab/archive\"\n");
    insta::assert_snapshot!(said(&export), @r#"
    DIR/config.toml:7: unknown key "volum" in [destinations.far.export]
    hint: did you mean "volume"?
    "#);
    assert!(said("[destinations]\nfar = 1\n").contains("far takes a table"));
}

const BUCKET: &str = "[destinations.far]\nplatform = \"s3\"\nbase_url = \"https://s3.example\"\n\
    credential = { file = \"good.keys\" }\nbucket = \"b\"\n";

#[test]
fn what_can_never_be_sent_is_refused() {
    let with = |more: &str| said(&format!("{BUCKET}{more}"));
    for fine in [
        "storage_class = \"DEEP_ARCHIVE\"\nacl = \"bucket-owner-full-control\"\nrequester_pays = true\n",
        "metadata = { operator = \"Jürgen Müller\", \"sample-name\" = \"a  b\" }\n",
        "prefix = \"{host}/{drop}/{run}\"\ntags = [\"lane={flowcell}\"]\n",
    ] {
        assert_eq!(with(fine), "fine", "{fine}");
    }
    for (bad, why) in [
        ("storage_class = \"DEEP ARCHIVE\"\n", "storage_class cannot be sent"),
        ("storage_class = \"\"\n", "storage_class cannot be sent"),
        ("acl = \"öffentlich\"\n", "acl cannot be sent"),
        ("metadata = { \"Sample Name\" = \"x\" }\n", "the key \"Sample Name\""),
        ("metadata = { \"größe\" = \"x\" }\n", "the key \"größe\""),
        ("metadata = { a = \"{smaple}\" }\n", "did you mean {sample}?"),
        ("prefix = \"{year}/\"\n", "allowed: {drop} {run}"),
        ("tags = [\"{Run}\"]\n", "a tag of destination \"far\" has the word {Run}"),
    ] {
        let said = with(bad);
        assert!(said.contains(why), "{bad}: {said}");
    }
    let credential = |value: &str| said(&BUCKET.replace("{ file = \"good.keys\" }", value));
    for (value, why) in [
        ("{ file = \"half.keys\" }", "no aws_secret_access_key in section [default]"),
        ("{ file = \"good.token\" }", "no aws_access_key_id in section [default]"),
        ("{ profile = \"nobody\" }", "has a profile of that name"),
        ("{ source = \"environment\" }", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"),
        ("{ source = \"web-identity\" }", "AWS_WEB_IDENTITY_TOKEN_FILE are not set"),
        ("{ source = \"envrionment\" }", "allowed: environment, instance, web-identity, chain"),
        ("{ source = \"chain\", file = \"good.keys\" }", "is not one of these"),
    ] {
        let said = credential(value);
        assert!(said.contains(why), "{value}: {said}");
    }
    assert_eq!(credential("{ source = \"instance\" }"), "fine");
    let token = said(&DESTINATION.replace("good.token", "empty.token"));
    assert!(token.contains("it is empty"), "{token}");
    let source = said(&DESTINATION.replace("{ file = \"good.token\" }", "{ source = \"chain\" }"));
    assert!(source.contains("source is not possible for \"sevenbridges\""), "{source}");
}

#[test]
fn bytes_go_in_the_clear_only_where_that_is_said() {
    for address in ["http://minio.lab:9000", "http://10.0.0.5:9000"] {
        let plain = BUCKET.replace("https://s3.example", address);
        assert!(said(&plain).contains("neither https nor on this machine"), "{address}");
        assert_eq!(said(&format!("{plain}allow_plain_http = true\n")), "fine", "{address}");
        assert!(said(&format!("{plain}allow_plain_http = false\n")).contains("neither https"));
    }
    let other = said(&format!("{DESTINATION}allow_plain_http = true\n"));
    assert!(other.contains("allow_plain_http is not possible for \"sevenbridges\""), "{other}");
}

#[test]
fn a_proxy_has_its_login_beside_it() {
    let network = |lines: &str| said(&format!("[network]\n{lines}"));
    let proxy = "proxy = \"http://proxy.lab:3128\"\n";
    let login = "proxy_credential = { file = \"good.token\" }\n";
    assert_eq!(network(&format!("{proxy}{login}no_proxy = [\".lab\", \"10.0.0.0/8\"]\n")), "fine");
    assert!(network(login).contains("is for the proxy that is named beside it"));
    let open = login.replace("good", "open");
    assert!(network(&format!("{proxy}{open}")).contains("may be read by others"));
    let other = login.replace("file", "source");
    assert!(network(&format!("{proxy}{other}")).contains("proxy_credential is not there"));
}

#[test]
fn drops_are_checked() {
    let text = format!(
        "{DESTINATION}[drops.lab]\ndirectory = \"drop\"\ndestinations = [\"fra\"]\n\
         [drops.inner]\ndirectory = \"drop/inner\"\ndestinations = [\"far\"]\n\
         [drops.gone]\ndirectory = \"nowhere\"\ndestinations = []\n"
    );
    insta::assert_snapshot!(said(&text), @r#"
    DIR/config.toml:8: there is no usable destination "fra"
    hint: did you mean "far"?
    DIR/config.toml:10: [drops.inner] directory lies in that of [drops.lab] (line 7)
    hint: each file may belong to one drop
    DIR/config.toml:13: directory DIR/nowhere is not there
    hint: make it, or correct the path; relative paths start at this file
    "#);
}

#[test]
fn profiles_are_built_in_or_beside_the_file() {
    for name in ["plain", "illumina", "nanopore", "pacbio", "element", "ours"] {
        assert_eq!(with(&format!("profile = {name:?}\n")), "fine", "{name}");
    }
    assert_eq!(with("profile = \"plain\"\nunit = \"file\"\n"), "fine");
    insta::assert_snapshot!(with("profile = \"ilumina\"\n"), @r#"
    DIR/config.toml:9: there is no profile "ilumina"
    hint: did you mean "illumina"? allowed: plain, illumina, nanopore, pacbio, element, mgi, iontorrent, 10x, bionano, microscopy, massspec, late, ours, typo, or a file profiles/NAME.toml beside this one
    "#);
    insta::assert_snapshot!(with("profile = \"../config\"\n"), @r#"
    DIR/config.toml:9: there is no profile "../config"
    hint: allowed: plain, illumina, nanopore, pacbio, element, mgi, iontorrent, 10x, bionano, microscopy, massspec, late, ours, typo, or a file profiles/NAME.toml beside this one
    "#);
    insta::assert_snapshot!(with("profile = \"pacbio\"\nunit = \"file\"\n"), @r#"
    DIR/config.toml:9: profile = "pacbio" is of directories, and unit is "file"
    hint: leave out unit, or choose profile = "plain"
    "#);
    insta::assert_snapshot!(with("profile = \"typo\"\n"), @r#"
    DIR/config.toml:9: profile DIR/profiles/typo.toml:3: unknown key "hold"
    hint: did you mean "held"?
    "#);
    insta::assert_snapshot!(with("profile = \"late\"\n"), @r#"
    DIR/config.toml:9: profile DIR/profiles/late.toml:2: stale_after = "soon" is no duration
    hint: allowed: a whole number and one of min h d
    "#);
    insta::assert_snapshot!(with("profile = \"mgi\"\n"), @r#"
    DIR/config.toml:9: profile DIR/profiles/mgi.toml:2: quiet_periods = 0 is not possible
    hint: allowed: a number from 1 to 10000
    "#);
}

#[test]
fn who_may_read_a_credential_of_systemd_is_its_own_affair() {
    let given = |name: &str| {
        let credential = format!("{{ systemd = \"{name}\" }}");
        said(&DESTINATION.replace("{ file = \"good.token\" }", &credential))
    };
    // Its ACL for the service's user looks like a permission of the group.
    assert_eq!(given("open.token"), "fine");
    insta::assert_snapshot!(given("other"), @r"
    DIR/config.toml:4: the credential cannot be read: No such file or directory (os error 2)
    hint: name it in LoadCredential= of the unit
    ");
}

#[test]
fn a_missing_file_says_how_to_name_another() {
    let environment = |_: &str| None;
    let problems =
        Config::load(Path::new("/nowhere/config.toml"), &environment).expect_err("not there");
    insta::assert_snapshot!(problems.to_string(), @r"
    /nowhere/config.toml: the configuration cannot be read: No such file or directory (os error 2)
    hint: name another with --config FILE or $DROPFERRY_CONFIG
    ");
}

#[test]
fn the_file_is_the_one_asked_for_then_the_environments_then_the_systems() {
    let set = |name: &str| (name == "DROPFERRY_CONFIG").then(|| "/env.toml".to_owned());
    let none = |_: &str| None;
    assert_eq!(locate(Some(Path::new("/asked.toml")), &set), Path::new("/asked.toml"));
    assert_eq!(locate(None, &set), Path::new("/env.toml"));
    assert_eq!(locate(None, &none), Path::new("/etc/dropferry/config.toml"));
}

#[test]
fn the_care_for_the_database_is_checked() {
    let fine = "[state]\nkeep_parts = \"forever\"\nbackup_interval = \"never\"\nbackups_kept = 1\n\
        check_interval = \"10ms\"\n";
    assert_eq!(said(&format!("{fine}directory = \"s\"\n")), "fine");
    let bad = "[state]\nkeep_parts = \"never\"\nbackup_interval = \"1ms\"\nbackups_kept = 0\n\
        check_interval = \"weekly\"\ndirectory = \"s\"\n";
    insta::assert_snapshot!(said(bad), @r#"
    DIR/config.toml:2: keep_parts = "never" is no duration
    hint: allowed: a number and one of ms s min h d, or "forever"
    DIR/config.toml:3: backup_interval = "1ms" is too short
    hint: at least 10 ms, or "never"
    DIR/config.toml:4: backups_kept = 0 is not possible
    hint: allowed: 1 to 1000
    DIR/config.toml:5: check_interval = "weekly" is no duration
    hint: allowed: a number and one of ms s min h d, or "never"
    "#);
}

#[test]
fn what_stands_in_a_secrets_place_is_never_repeated() {
    // In the forms of tokens, keys, passwords and addresses.
    let planted = [
        "PLANTED0123456789abcdef",
        "PLANTED/abc+def==",
        "PLANTED.eyJhbGciOiJub25l.c2ln",
        "https://hooks.example/PLANTED/x",
        "user:PLANTED@host",
    ];
    let platform = "[destinations.far]\nplatform = \"PLATFORM\"\nproject = \"lab/novaseq\"\n\
        app_result = \"1\"\nbucket = \"b\"\nbase_url = \"https://api.example/v2\"\n";
    let mail = "[notify.mail]\nto = [\"a@b.example\"]\nfrom = \"a@b.example\"\nsmtp = \"h:25\"\n";
    let hook = "[notify.webhook]\nurl_file = \"t.url\"\n";
    let mut texts: Vec<String> = Vec::new();
    for secret in planted {
        let written = [
            format!("\"{secret}\""),
            format!("[\"{secret}\"]"),
            format!("{{ file = \"{secret}\" }}"),
            format!("{{ file = [\"{secret}\"] }}"),
            format!("{{ file = {{ name = \"{secret}\" }} }}"),
            format!("{{ systemd = \"{secret}\" }}"),
            format!("{{ profile = \"{secret}\" }}"),
            format!("{{ source = \"{secret}\" }}"),
            format!("{{ token = \"{secret}\" }}"),
            format!("{{ \"{secret}\" = 1 }}"),
            format!("{{ file = \"good.token\", profile = \"{secret}\" }}"),
        ];
        for value in &written {
            for name in ["sevenbridges", "basespace", "gjirafa-vp", "s3"] {
                let platform = platform.replace("PLATFORM", name);
                texts.push(format!("{platform}credential = {value}\n"));
            }
            texts.push(format!("{mail}credential = {value}\n"));
            texts.push(format!("{mail}password = {value}\n"));
            texts.push(format!("{mail}smtp = {value}\n").replace("smtp = \"h:25\"\n", ""));
            texts.push(format!("{hook}secret_file = {value}\n"));
            texts.push(format!("{hook}url = {value}\n"));
            texts.push(format!("[notify.webhook]\nurl_file = {value}\n"));
            texts.push(format!("[notify.heartbeat]\nurl_file = {value}\n"));
            texts.push(format!("{DESTINATION}token = {value}\n"));
            texts.push(format!("{DESTINATION}base_url = {value}\n").replacen("base_url", "#", 1));
            texts.push(format!("{DESTINATION}customer_key_file = {value}\n"));
            texts.push(format!("{DESTINATION}auth_header = {value}\n"));
            let gjirafa = platform.replace("PLATFORM", "gjirafa-vp");
            texts.push(format!(
                "{gjirafa}credential = {{ file = \"good.token\" }}\nauth_prefix = {value}\n"
            ));
            texts.push(format!("[network]\nproxy = {value}\n"));
            texts.push(format!("[network]\nproxy_credential = {value}\n"));
        }
        // A table of its own, and a value that is no string.
        texts.push(format!("{platform}[destinations.far.credential]\n\"{secret}\" = true\n"));
        texts.push(format!("{platform}[destinations.far.credential]\nfile = \"{secret}\"\n"));
    }
    texts.push(format!("{platform}credential = 77001234567\n"));
    texts.push(format!("{platform}credential = {{ file = 77001234567 }}\n"));
    for text in texts {
        let said = said(&text);
        let is_repeated = ["PLANTED", "77001234567", "eyJhbGci"].iter().any(|s| said.contains(s));
        assert!(!is_repeated, "{text}\n{said}");
    }
}

#[test]
fn a_token_in_place_of_its_file_leads_to_the_file() {
    let text = DESTINATION.replace("{ file = \"good.token\" }", "\"PLANTED\"");
    insta::assert_snapshot!(said(&text), @r#"
    DIR/config.toml:4: credential takes a table, and not a text
    hint: a secret is kept in a file of its own: credential = { file = "NAME" }
    "#);
}

#[test]
fn the_state_lies_apart_from_what_is_watched() {
    let drop = "[drops.lab]\ndirectory = \"drop/inner\"\ndestinations = [\"far\"]\n";
    let with = |head: &str| said(&format!("{head}{DESTINATION}{drop}"));
    assert_eq!(with("[state]\ndirectory = \"drop/innermost\"\n"), "fine");
    insta::assert_snapshot!(with("[state]\ndirectory = \"drop/inner/state\"\n"), @r#"
    DIR/config.toml:2: the state directory DIR/drop/inner/state and the directory of drop "lab" overlap
    hint: the daemon would upload its own database and receipts: set [state] directory to one outside of every drop directory
    "#);
    for state in ["drop", "drop/inner", "drop/inner/../inner/new/er", "link/state"] {
        let told = with(&format!("[state]\ndirectory = {state:?}\n"));
        assert!(told.contains("overlap"), "{state}: {told}");
    }
    let told = with("[state]\ndirectory = \"s\"\n[control]\nsocket = \"drop/inner/c.sock\"\n");
    assert!(told.contains("config.toml:4: the control socket"), "{told}");
}

#[test]
fn neither_a_credential_nor_the_configuration_lies_where_it_would_be_uploaded() {
    let state =
        "[state]\ndirectory = \"/nowhere/state\"\n[control]\nsocket = \"/nowhere/c.sock\"\n";
    let drop = |directory: &str| {
        let drop = format!("[drops.lab]\ndirectory = {directory:?}\ndestinations = [\"far\"]\n");
        said(&format!("{state}{DESTINATION}{drop}"))
    };
    assert_eq!(drop("drop"), "fine");
    for directory in [".", "..", "drop/.."] {
        let told = drop(directory);
        assert!(told.contains("the configuration, "), "{directory}: {told}");
        assert!(told.contains("the credential of destination \"far\", "), "{directory}: {told}");
    }
}

/// Checks files beside each other, the first of which is the configuration.
fn said_of_files(files: &[(&str, u32, &str)]) -> Result<Config, String> {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    for name in ["conf.d", "drop", "conf.d/inner"] {
        std::fs::create_dir(place.join(name)).expect("made");
    }
    for (name, mode, text) in [&[("conf.d/t.token", 0o600, "t")], files].concat() {
        std::fs::write(place.join(name), text).expect("written");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place.join(name), mode).expect("set");
    }
    let environment = |name: &str| (name == "HOME").then(|| "/home/lab".to_owned());
    let loaded = Config::load(&place.join(files[0].0), &environment);
    loaded.map_err(|problems| problems.shown().replace(&place.display().to_string(), "DIR"))
}

#[test]
fn files_of_conf_d_are_joined_in_the_order_of_their_names() {
    let main = "[transfer]\nmemory = \"32 MiB\"\n[[transfer.timetable]]\nfrom = \"07:00\"\nuntil = \"08:00\"\n\
        bandwidth = \"1 MB/s\"\n";
    let far = "[destinations.far]\nplatform = \"cavatica\"\nproject = \"lab/x\"\nfolder = \"{host}\"\n\
        credential = { file = \"t.token\" }\n";
    let more = "[transfer]\nbandwidth = \"5 MB/s\"\n[[transfer.timetable]]\nfrom = \"09:00\"\n\
        until = \"10:00\"\nbandwidth = \"2 MB/s\"\n\
        [drops.lab]\ndirectory = \"../drop\"\ndestinations = [\"far\"]\n";
    let config = said_of_files(&[
        ("config.toml", 0o644, main),
        ("conf.d/20-more.toml", 0o644, more),
        ("conf.d/10-far.toml", 0o644, far),
        ("conf.d/.hidden.toml", 0o644, "no TOML"),
        ("conf.d/note.txt", 0o644, "no TOML"),
    ])
    .expect("they are joined");
    let [far] = &config.destinations[..] else { panic!("one destination") };
    assert_eq!(far.platform.base_url(), "https://cavatica-api.sbgenomics.com/v2");
    assert!(!far.folder.contains('{'), "{}", far.folder);
    assert!(far.credential.file().is_some_and(|file| file.ends_with("conf.d/t.token")));
    assert_eq!(config.drops.len(), 1);
    assert_eq!(config.transfer.memory, ByteCount(32 * 1024 * 1024));
    assert_eq!(config.transfer.bandwidth, parse_rate("5 MB/s").expect("a rate"));
    assert_eq!(format!("{:?}", config.transfer.timetable).matches("Period {").count(), 2);
}

#[test]
fn what_stands_twice_or_may_be_written_by_others_is_refused_with_its_file() {
    let main = "[state]\ndirectory = \"a\"\n";
    let file =
        |mode, text| said_of_files(&[("config.toml", 0o644, main), ("conf.d/a.toml", mode, text)]);
    insta::assert_snapshot!(file(0o644, "\n[state]\ndirectory = \"b\"\n").expect_err("twice"), @r#"
    DIR/conf.d/a.toml:3: directory appears twice: it is in DIR/config.toml:2 too
      |
    3 | directory = "b"
      | ^^^^^^^^^
    hint: remove one of the two; only tables and lists of tables are joined
    "#);
    insta::assert_snapshot!(file(0o666, "").expect_err("writable"), @"
    DIR/conf.d/a.toml: others may write this file (mode 666)
    hint: chmod go-w DIR/conf.d/a.toml
    ");
    insta::assert_snapshot!(file(0o644, "[transfr]\n").expect_err("a key"), @r#"
    DIR/conf.d/a.toml:1: unknown table [transfr]
      |
    1 | [transfr]
      |  ^^^^^^^
    hint: did you mean [transfer]?
    "#);
    insta::assert_snapshot!(file(0o644, "[web]\nlisten = \"here\"\n").expect_err("a value"), @r#"
    DIR/conf.d/a.toml:2: listen = "here" is no address
      |
    2 | listen = "here"
      |          ^^^^^^
    hint: an address and a port, such as "127.0.0.1:8377"; or "off"
    "#);
}

#[test]
fn keys_that_appear_twice_in_one_file_are_said_each_with_its_line() {
    let main = "[state]\ndirectory = \"a\"\ndirectory = \"b\"\n[web]\nlisten = \"off\"\nlisten = \"off\"\n";
    insta::assert_snapshot!(said_of_files(&[("config.toml", 0o644, main)]).expect_err("twice"), @r#"
    DIR/config.toml:3: this key appears twice: line 2 has it already
      |
    3 | directory = "b"
      | ^^^^^^^^^
    DIR/config.toml:6: this key appears twice: line 5 has it already
      |
    6 | listen = "off"
      | ^^^^^^
    "#);
}

/// Opening a pipe would wait for a writer.
#[test]
fn a_pipe_among_the_files_of_a_configuration_is_refused() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name);
    std::fs::create_dir(place("conf.d")).expect("made");
    for pipe in ["conf.d/a.toml", "config.toml"] {
        std::fs::write(place("config.toml"), "").expect("written");
        std::fs::remove_file(place(pipe)).ok();
        mkfifoat(CWD, place(pipe), Mode::RUSR).expect("made");
        let said =
            Config::load(&place("config.toml"), &|_| None).expect_err("it is no file").shown();
        assert!(said.contains("this is no file"), "{pipe}: {said}");
        std::fs::remove_file(place(pipe)).expect("removed");
    }
}

#[test]
fn an_excerpt_shows_no_value_that_may_be_a_secret() {
    let of = |text: &str| {
        let environment = |_: &str| None;
        let parsed = Config::parse(Path::new("config.toml"), text, &environment);
        parsed.expect_err("it is wrong").shown()
    };
    for text in [
        "[destinations.far]\ncredential = \"planted0123\"\n",
        "[destinations.far]\ntoken = \"planted0123\"\n",
        "[network]\nproxy = \"http://user:planted0123@proxy\n",
        "planted0123=\n",
        "[destinations.far]\nplanted0123\n",
        "[destinations.far]\ncredential = planted0123\n",
        "[notify.webhook]\nurl = \"https://hooks.example/planted0123\"\n",
        "[notify.mail]\nsmtp = \"user:planted0123@host:x\"\n",
    ] {
        let said = of(text);
        assert!(!said.contains("planted0123"), "{said}");
    }
}

#[test]
fn the_state_of_the_system_is_where_its_service_has_it() {
    let state = |path: &str| {
        let environment = |name: &str| (name == "HOME").then(|| "/home/lab".to_owned());
        let sources = Sources::single(Path::new(path), "");
        let keys = FileKeys::of(&sources).expect("it is empty");
        resolve::places(&sources, keys, &environment).expect("a place").state_directory
    };
    assert_eq!(state("/etc/dropferry/config.toml"), Path::new("/var/lib/dropferry"));
    assert_eq!(state("/home/lab/config.toml"), Path::new("/home/lab/.local/state/dropferry"));
}
