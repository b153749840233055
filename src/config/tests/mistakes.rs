//! Mistakes that people made, and what each of them reads.

use super::{DESTINATION, DROP, said_of_files};

#[test]
fn each_mistake_has_a_message_that_leads_to_its_cure() {
    let whole = format!("{DESTINATION}{DROP}").replace("good.token", "conf.d/t.token");
    let with = |old: &str, new: &str| {
        assert!(whole.contains(old), "{old}");
        whole.replace(old, new)
    };
    let and = |more: &str| format!("{whole}{more}");
    let project = "project = \"lab/novaseq\"";
    let credential = "credential = { file = \"conf.d/t.token\" }";
    let to = "destinations = [\"far\"]";
    let url = "https://api.example/v2";
    let mistakes = [
        ("a wrong key", with(project, "project = \"a/b\"\nfoldr = \"x\"")),
        ("no token file", with("conf.d/t.token", "conf.d/none.token")),
        ("words for a unit", and("quiet_period = \"2 minutes\"\n")),
        ("a rate in bits", and("[transfer]\nbandwidth = \"50 Mbit/s\"\n")),
        ("a comma", and("[transfer]\nbandwidth = \"1,5 MB/s\"\n")),
        ("a number for a text", and("[web]\nlisten = 8377\n")),
        ("a directory that is nearly there", with("\"drop\"", "\"drp\"")),
        ("a file for a directory", with("\"drop\"", "\"config.toml\"")),
        ("a variable", with("\"drop\"", "\"$HOME/novaseq\"")),
        (
            "one directory in another",
            and("[drops.two]\ndirectory = \"drop\"\ndestinations = [\"far\"]\n"),
        ),
        ("http", with(url, "http://api.example/v2")),
        ("no /v2", with(url, "https://cavatica-api.sbgenomics.com")),
        ("the token itself", with(credential, "credential = \"planted0123456789\"")),
        (
            "the token under its name",
            with(credential, &format!("{credential}\ntoken = \"planted0123456789\"")),
        ),
        ("no quotes", with("\"sevenbridges\"", "sevenbridges")),
        ("typographic quotes", with("\"sevenbridges\"", "\u{201c}sevenbridges\u{201d}")),
        ("a table twice", and("[destinations.far]\nplatform = \"s3\"\n")),
        ("a key twice", and("directory = \"drop\"\n")),
        ("a table of another name", and("[drop.two]\ndirectory = \"drop\"\n")),
        ("an unknown profile", and("profile = \"ilumina\"\n")),
        ("no destinations", with(to, "")),
        ("an unknown platform", with("\"sevenbridges\"", "\"cavatika\"")),
        (
            "an unknown word in braces",
            with(project, &format!("{project}\nfolder = \"runs/{{rnu}}\"")),
        ),
        (
            "an address in a webhook",
            and("[notify.webhook]\nurl = \"https://hooks.example/planted0123456789\"\n"),
        ),
        ("an address that is none", and("[web]\nlisten = \"here\"\n")),
    ];
    let mut all = String::new();
    for (what, text) in mistakes {
        let said = said_of_files(&[("config.toml", 0o644, &text)]).expect_err(what);
        all += &format!("--- {what}\n{said}\n\n");
    }
    assert!(!all.contains("planted"), "{all}");
    insta::assert_snapshot!("mistakes", all);
    for fine in [
        with(to, "destinations = \"far\""),
        and("[web]\nlisten = \"localhost:8377\"\n"),
        with(
            "platform = \"sevenbridges\"\nbase_url = \"https://api.example/v2\"",
            "platform = \"cgc\"",
        ),
    ] {
        said_of_files(&[("config.toml", 0o644, &fine)]).unwrap_or_else(|said| panic!("{said}"));
    }
}
