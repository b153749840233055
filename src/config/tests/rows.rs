//! Real mistakes of users in a configuration, which are compared with the program's messages and
//! with the schema.

/// A configuration without a mistake.
pub(crate) const GOOD: &str = "[destinations.far]\nplatform = \"sevenbridges\"\n\
    base_url = \"https://api.example/v2\"\ncredential = { file = \"conf.d/t.token\" }\n\
    project = \"lab/novaseq\"\n\
    [drops.lab]\ndirectory = \"drop\"\ndestinations = [\"far\"]\n";

/// Changes to a good configuration: what is replaced, and by what. An empty text means the end.
pub(crate) const MISTAKES: [(&str, &str, &str); 59] = [
    ("a wrong key", "project = \"lab/novaseq\"", "project = \"a/b\"\nfoldr = \"x\""),
    ("a wrong key for one that must be there", "project =", "projct ="),
    ("no token file", "conf.d/t.token", "conf.d/none.token"),
    ("a directory for a token", "conf.d/t.token", "conf.d/inner"),
    ("the token itself", "{ file = \"conf.d/t.token\" }", "\"planted0123456789\""),
    ("the token in its table", "file = \"conf.d/t.token\"", "token = \"planted0123456789\""),
    ("the token under its name", "credential = {", "token = \"planted0123456789\"\ncredential = {"),
    ("a profile that is a path", "file = \"conf.d/t.token\"", "profile = \"a/b\""),
    ("words for a unit", "", "quiet_period = \"2 minutes\"\n"),
    ("a size in words", "", "[transfer]\nmemory = \"64MBytes\"\n"),
    ("a rate in bits", "", "[transfer]\nbandwidth = \"50 Mbit/s\"\n"),
    ("a comma", "", "[transfer]\nbandwidth = \"1,5 MB/s\"\n"),
    ("thousands", "", "[transfer]\nbandwidth = \"1,000 MB/s\"\n"),
    ("a number for a size", "", "[transfer]\npart_size = 64\n"),
    ("a number for a text", "", "[web]\nlisten = 8377\n"),
    ("a number for a list", "[\"far\"]", "1"),
    ("no parts", "", "[transfer]\nparts_in_flight = 0\n"),
    ("a day in full", "", "[[transfer.timetable]]\ndays = [\"monday\"]\n"),
    (
        "a time of day",
        "",
        "[[transfer.timetable]]\nfrom = \"7 am\"\nuntil = \"19:00\"\nbandwidth = \"0\"\n",
    ),
    ("a directory that is nearly there", "\"drop\"", "\"drp\""),
    ("a directory that is nowhere", "\"drop\"", "\"/nowhere/novaseq\""),
    ("a file for a directory", "\"drop\"", "\"config.toml\""),
    ("a variable", "\"drop\"", "\"$HOME/novaseq\""),
    ("one directory twice", "", "[drops.two]\ndirectory = \"drop\"\ndestinations = [\"far\"]\n"),
    (
        "one directory below another",
        "",
        "[drops.two]\ndirectory = \"conf.d/inner\"\ndestinations = [\"far\"]\n\
         [drops.three]\ndirectory = \"conf.d\"\ndestinations = [\"far\"]\n",
    ),
    ("a state in the drop directory", "", "[state]\ndirectory = \"drop/state\"\n"),
    ("no way to move to", "", "disposition = \"move\"\n"),
    ("http", "https:", "http:"),
    ("no /v2", "https://api.example/v2", "https://cavatica-api.sbgenomics.com"),
    ("no quotes", "\"sevenbridges\"", "sevenbridges"),
    ("typographic quotes", "\"sevenbridges\"", "\u{201c}sevenbridges\u{201d}"),
    ("an open quote", "\"drop\"", "\"drop"),
    ("an open table", "[drops.lab]", "[drops.lab"),
    ("a table twice", "", "[destinations.far]\nplatform = \"s3\"\n"),
    ("a key twice", "", "directory = \"drop\"\n"),
    ("a table of another name", "", "[drop.two]\ndirectory = \"drop\"\n"),
    ("a table of another name that is needed", "[destinations.", "[destination."),
    ("an unknown profile", "", "profile = \"ilumina\"\n"),
    ("an unknown platform", "\"sevenbridges\"", "\"cavatika\""),
    ("no platform", "platform = \"sevenbridges\"\n", ""),
    ("no credential", "credential = { file = \"conf.d/t.token\" }\n", ""),
    ("no directory", "directory = \"drop\"\n", ""),
    ("no destinations", "destinations = [\"far\"]\n", ""),
    ("an empty list", "[\"far\"]", "[]"),
    ("no such destination", "[\"far\"]", "[\"fra\"]"),
    ("a project without its owner", "lab/novaseq", "novaseq"),
    ("a key of another platform", "project =", "bucket = \"b\"\nproject ="),
    ("a word of another tool", "project =", "when_name_taken = \"skip\"\nproject ="),
    ("a name with a blank", "[drops.lab]", "[drops.\"my run\"]"),
    ("an unknown word in braces", "project =", "folder = \"runs/{rnu}\"\nproject ="),
    (
        "an address in a webhook",
        "",
        "[notify.webhook]\nurl = \"https://hooks.example/planted01234\"\n",
    ),
    ("no mail address", "", "[notify.mail]\nto = [\"me\"]\nsmtp = \"smtp.lab.example\"\n"),
    ("a kind of notice", "", "[notify.command]\nrun = [\"/bin/sh\"]\non = [\"parkd\"]\n"),
    ("a program without its path", "", "[notify.command]\nrun = [\"notify-lims\"]\n"),
    ("an address that is none", "", "[web]\nlisten = \"here\"\n"),
    ("an open page", "", "[web]\nlisten = \"0.0.0.0:8377\"\n"),
    ("a script for a proxy", "", "[network]\nproxy = \"http://wpad.lab/proxy.pac\"\n"),
    ("another kind of proxy", "", "[network]\nproxy = \"socks5://u:planted0123456789@proxy\"\n"),
    ("no certificate", "", "[network]\nca_file = \"lab-ca.pem\"\n"),
];

/// Returns a good configuration with one mistake in it.
pub(crate) fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    if old.is_empty() { GOOD.to_owned() + new } else { GOOD.replace(old, new) }
}
