//! Where the scenarios run: the fake, and each client against its stand-in.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use dropferry::testing::clock::Clock;
use dropferry::testing::config::Config;
use dropferry::testing::daemon::clients;
use dropferry::testing::model::{
    ByteCount, Describes, ETagLaw, PartLimits, Replaces, Target, Traits,
};
use dropferry::testing::platform::contract::SharedPlatform;
use dropferry::testing::platform::fake::{Fake, WallTimeOrZero};
use dropferry::testing::sandbox::faults::{Action, Rule, Switches, When};
use dropferry::testing::sandbox::{Sandbox, Settings, Vendor};

use super::super::stage::TOKEN;
use super::driver::{Sent, now};

/// One platform, and what can be seen and done on its side.
pub(super) struct Site {
    pub(super) name: &'static str,
    pub(super) platform: SharedPlatform,
    /// Files can be found by their name.
    pub(super) looks_up: bool,
    /// A file can be replaced, but only if that is asked for.
    pub(super) overwrites: bool,
    pub(super) faults: Option<Faults>,
    far: Far,
    /// Where a stand-in keeps its objects, for as long as the test looks at them.
    _home: Option<tempfile::TempDir>,
}

enum Far {
    Fake(Fake),
    Sandbox(Vendor, Arc<Sandbox>),
}

/// Makes a stand-in misbehave.
pub(super) struct Faults {
    vendor: Vendor,
    sandbox: Arc<Sandbox>,
}

impl Faults {
    pub(super) fn set(&self, operation: &str, when: When, action: Action) {
        let rule = Rule {
            operation: operation.into(),
            key: String::new(),
            nth: 1,
            times: 1,
            every: 1,
            chance: None,
            when,
            action,
        };
        self.sandbox.set_rules(self.vendor, vec![rule]);
    }

    pub(super) fn clear(&self) {
        self.sandbox.set_rules(self.vendor, Vec::new());
    }

    pub(super) fn switch(&self, change: impl FnOnce(&mut Switches)) {
        let mut switches = Switches::default();
        change(&mut switches);
        self.sandbox.switch(self.vendor, switches);
    }

    pub(super) fn calls(&self) -> BTreeMap<String, u64> {
        self.sandbox.ledger(self.vendor).calls
    }

    /// The operations that were called since.
    pub(super) fn calls_since(&self, before: &BTreeMap<String, u64>) -> Vec<String> {
        let after = self.calls();
        let is_new = |(name, count): &(&String, &u64)| before.get(*name) != Some(*count);
        after.iter().filter(is_new).map(|(name, _)| name.clone()).collect()
    }
}

impl Site {
    /// The target as this platform takes it.
    pub(super) fn target(&self, target: &Target) -> Target {
        target.clone()
    }

    pub(super) fn vanish(&self) {
        match &self.far {
            Far::Fake(fake) => fake.state().uploads.clear(),
            Far::Sandbox(vendor, sandbox) => sandbox.vanish(*vendor),
        }
    }

    pub(super) fn open_uploads(&self) -> Vec<String> {
        match &self.far {
            Far::Fake(fake) => fake.state().uploads.keys().cloned().collect(),
            Far::Sandbox(vendor, sandbox) => sandbox.ledger(*vendor).open_uploads,
        }
    }

    pub(super) fn breaches(&self) -> Vec<String> {
        match &self.far {
            Far::Fake(_) => Vec::new(),
            Far::Sandbox(vendor, sandbox) => sandbox.ledger(*vendor).breaches,
        }
    }

    /// The file is there exactly once, with its content.
    pub(super) fn assert_holds(&self, sent: &Sent) {
        let contents = match &self.far {
            Far::Fake(fake) => {
                let state = fake.state();
                let files = state.files.values().filter(|file| file.target == sent.target);
                files.map(|file| file.bytes.clone()).collect()
            }
            Far::Sandbox(vendor, sandbox) => contents(*vendor, sandbox, &sent.target),
        };
        let name = sent.target.name();
        assert_eq!(contents.len(), 1, "{}: {name} is there {} times", self.name, contents.len());
        assert!(contents[0] == sent.content, "{}: {name} has another content", self.name);
    }
}

fn contents(vendor: Vendor, sandbox: &Sandbox, target: &Target) -> Vec<Vec<u8>> {
    let folder = match vendor {
        Vendor::GjirafaVp => String::new(),
        Vendor::SevenBridges | Vendor::BaseSpace | Vendor::S3 => target.folder().to_owned(),
    };
    let files = sandbox.files(vendor).into_iter();
    let files = files.filter(|file| file.folder == folder && file.name == target.name());
    let content = |parts: Vec<std::path::PathBuf>| {
        parts.iter().flat_map(|part| std::fs::read(part).expect("read")).collect()
    };
    files.map(|file| content(file.parts)).collect()
}

pub(super) async fn sites() -> Vec<Site> {
    let mut sites = vec![fake()];
    for vendor in Vendor::ALL {
        sites.push(stand_in(vendor).await);
    }
    sites
}

fn fake() -> Site {
    let traits = Traits {
        limits: PartLimits {
            size_min: ByteCount(1),
            size_max: ByteCount(1 << 30),
            count_max: 1000,
            file_max: ByteCount(1 << 40),
            path_max: ByteCount(u64::MAX),
        },
        reports_parts: true,
        report_max: 25,
        describes: Describes::AfterCompletion,
        finishes_runs: false,
        has_places: true,
        wants_md5_first: false,
        sends_whole: false,
        can_inspect: true,
        replaces: Replaces::ByETag,
        parts_need_account: true,
        etags: ETagLaw::Mostly { reads_back: true },
    };
    let fake = Fake::new(traits);
    fake.state().now = WallTimeOrZero(now());
    Site {
        name: "fake",
        platform: Arc::new(fake.clone()),
        looks_up: true,
        overwrites: true,
        faults: None,
        far: Far::Fake(fake),
        _home: None,
    }
}

/// Builds the client as the daemon does, from a configuration.
async fn stand_in(vendor: Vendor) -> Site {
    let home = tempfile::tempdir().expect("a directory");
    let mut settings = Settings::new(home.path().join("sandbox"));
    settings.token = TOKEN.into();
    settings.part_size_min = 1;
    settings.rate_limit = 100_000_000;
    let sandbox = Arc::new(Sandbox::start(settings).await.expect("it listens"));
    let keys = format!("[default]\naws_access_key_id = SANDBOX\naws_secret_access_key = {TOKEN}\n");
    for (name, content) in [("token", TOKEN), ("keys", &keys)] {
        let file = home.path().join(name);
        std::fs::write(&file, content).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
    }
    let lines = match vendor {
        // The stand-in's own lines make an AppResult for each drop.
        Vendor::BaseSpace => format!(
            "platform = \"basespace\"\nbase_url = \"{}\"\napp_result = \"710000001\"\n",
            sandbox.base_url(vendor)
        ),
        Vendor::SevenBridges | Vendor::GjirafaVp | Vendor::S3 => sandbox.destination_lines(vendor),
    };
    let credential = if vendor == Vendor::S3 { "keys" } else { "token" };
    let text = format!(
        "[state]\ndirectory = \"state\"\n[web]\nlisten = \"off\"\n[network]\ninactivity_timeout = \"2s\"\n\
         [destinations.far]\n{lines}credential = {{ file = \"{credential}\" }}\n"
    );
    let none = |_: &str| None;
    let config = Config::parse(&home.path().join("config.toml"), &text, &none).expect("fine");
    let mut clients = clients(&config, &Clock::real()).expect("a client");
    let (_, platform) = clients.pop().expect("one");
    let far = Far::Sandbox(vendor, Arc::clone(&sandbox));
    Site {
        name: vendor.as_str(),
        platform,
        looks_up: vendor != Vendor::GjirafaVp,
        overwrites: matches!(vendor, Vendor::SevenBridges | Vendor::S3),
        faults: Some(Faults { vendor, sandbox }),
        far,
        _home: Some(home),
    }
}
