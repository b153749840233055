use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex as Lock;
use std::sync::atomic::AtomicI64;

use super::*;
use crate::model::Now;
use crate::platform::credential::KeyOrigin;
use crate::platform::http::Settings;
use crate::platform::http::stub::{Reply, Seen, Stub};

/// 2026-11-21T00:00:00Z
const START: i64 = 1_795_219_200_000_000_000;

/// A home directory with the files of AWS's tools, an environment, and a manual clock.
struct Home {
    directory: tempfile::TempDir,
    variables: Arc<Lock<BTreeMap<String, String>>>,
    seconds: Arc<AtomicI64>,
}

impl Home {
    fn new(config: &str, credentials: &str) -> Self {
        let home = Self {
            directory: tempfile::tempdir().expect("a directory"),
            variables: Arc::default(),
            seconds: Arc::default(),
        };
        home.write("config", config);
        home.write("credentials", credentials);
        let path = home.directory.path().display().to_string();
        home.set("HOME", &path);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let file = self.path(name);
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
    }

    fn set(&self, name: &str, value: &str) {
        self.variables.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    fn source(&self, origin: KeyOrigin) -> AwsSource {
        AwsSource { config: self.path("config"), credentials: self.path("credentials"), origin }
    }

    fn lookup(&self) -> impl Fn(&str) -> Option<String> + Send + Sync + 'static {
        let variables = Arc::clone(&self.variables);
        move |name: &str| variables.lock().unwrap().get(name).cloned()
    }

    fn recipe(&self, origin: KeyOrigin) -> Result<Recipe, String> {
        recipe::of(&self.source(origin), &self.lookup())
    }

    fn keys(&self, origin: KeyOrigin) -> AwsKeys {
        let seconds = Arc::clone(&self.seconds);
        let time = TimeSource::new(move || {
            let passed = seconds.load(Ordering::Relaxed);
            let monotonic = Monotonic(Duration::from_secs(passed.unsigned_abs()));
            Now { monotonic, wall: WallTime(START + passed * 1_000_000_000) }
        });
        let network = Settings {
            proxy: None,
            proxy_credential: None,
            no_proxy: None,
            ca_file: None,
            inactivity_timeout: Duration::from_secs(5),
        };
        let http = Http::new(&network).expect("a client");
        AwsKeys::new(self.source(origin), http, time, "eu-central-1", Arc::new(self.lookup()))
    }

    fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

fn profile(name: &str) -> KeyOrigin {
    KeyOrigin::Profile(name.to_owned())
}

fn of(seen: &Seen) -> String {
    String::from_utf8(seen.body.clone()).expect("text")
}

/// The token service's answer, numbered, valid for a quarter of an hour.
fn given(number: usize, ends: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <AssumedRoleUser><Arn>a</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>planted-{number}</SecretAccessKey>\
         <SessionToken>token-{number}</SessionToken><Expiration>{ends}</Expiration>\
         </Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

const BASE: &str = "[base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = planted-base\n";

#[test]
fn a_profile_is_read_from_both_files() {
    let home = Home::new(
        "[default]\nregion = eu-west-1\n[profile lab]\nrole_arn = arn:aws:iam::1:role/lab # ours\n\
         source_profile = base\nexternal_id = x-1\nduration_seconds = 900\nregion=eu-north-1\n\
         [profile self]\nrole_arn = r\nsource_profile = self\naws_access_key_id = A\n\
         aws_secret_access_key = b\n[profile one]\nrole_arn = r\nsource_profile = two\n\
         [profile two]\nrole_arn = r\nsource_profile = one\n[profile mfa]\nrole_arn = r\n\
         mfa_serial = m\nsource_profile = base\n[profile prints]\ncredential_process = keys 'a b'\n\
         [profile portal]\nsso_session = corp\nsso_account_id = 12\nsso_role_name = up\n\
         [sso-session corp]\nsso_start_url = https://corp.example/start\nsso_region = eu-west-1\n\
         [profile half]\nsso_session = corp\n[profile host]\nrole_arn = r\n\
         credential_source = Ec2InstanceMetadata\n[profile odd]\nrole_arn = r\n\
         credential_source = Moon\n[profile empty]\noutput = json\n",
        BASE,
    );
    let keys = |access_key: &str, secret: &str| Recipe::Keys {
        access_key: access_key.into(),
        secret: secret.into(),
        session: None,
    };
    assert_eq!(home.recipe(profile("base")), Ok(keys("AKIDBASE", "planted-base")));
    let Ok(Recipe::Role { role, from }) = home.recipe(profile("lab")) else { panic!("no role") };
    assert_eq!((role.arn.as_str(), role.duration_s), ("arn:aws:iam::1:role/lab", Some(900)));
    assert_eq!(
        (role.external_id.as_deref(), role.region.as_deref()),
        (Some("x-1"), Some("eu-north-1"))
    );
    assert_eq!(*from, keys("AKIDBASE", "planted-base"));
    let Ok(Recipe::Role { from, .. }) = home.recipe(profile("self")) else { panic!("no role") };
    assert_eq!(*from, keys("A", "b"));
    assert_eq!(home.recipe(profile("prints")), Ok(Recipe::Process("keys 'a b'".into())));
    let Ok(Recipe::Sso(sso)) = home.recipe(profile("portal")) else { panic!("no portal") };
    assert_eq!(
        (sso.start_url.as_str(), sso.region.as_str()),
        ("https://corp.example/start", "eu-west-1")
    );
    let Ok(Recipe::Role { from, .. }) = home.recipe(profile("host")) else { panic!("no role") };
    assert_eq!(*from, Recipe::Instance);
    for (name, why) in [
        ("one", "circles"),
        ("mfa", "mfa_serial"),
        ("half", "sso_account_id"),
        ("odd", "credential_source"),
        ("empty", "no role_arn"),
        ("default", "no role_arn"),
        ("nowhere", "has a profile of that name"),
    ] {
        let said = home.recipe(profile(name)).expect_err(name);
        assert!(said.contains(why), "{name}: {said}");
        assert!(!said.contains("planted"), "{said}");
    }
}

#[test]
fn the_chain_takes_the_first_place_that_has_keys() {
    let home = Home::new("[default]\nregion = eu-west-1\n", BASE);
    let chain = || home.recipe(KeyOrigin::Chain);
    assert_eq!(chain(), Ok(Recipe::Instance), "a profile without keys is passed over");
    home.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/");
    assert_eq!(chain(), Ok(Recipe::Container));
    home.set("AWS_ROLE_ARN", "r");
    home.set("AWS_WEB_IDENTITY_TOKEN_FILE", "/token");
    assert!(matches!(chain(), Ok(Recipe::WebIdentity { .. })));
    home.set("AWS_PROFILE", "base");
    assert!(matches!(chain(), Ok(Recipe::Keys { .. })));
    home.set("AWS_PROFILE", "nowhere");
    assert!(chain().is_err(), "one that is asked for must be there");
    home.set("AWS_ACCESS_KEY_ID", "A");
    assert!(chain().is_err(), "half of a pair is none");
    home.set("AWS_SECRET_ACCESS_KEY", "b");
    assert!(matches!(chain(), Ok(Recipe::Keys { session: None, .. })));
    let none = Home::new("", "");
    for origin in [KeyOrigin::Environment, KeyOrigin::WebIdentity] {
        assert!(none.recipe(origin).expect_err("none").contains("are not set"));
    }
}

#[tokio::test]
async fn a_role_is_assumed_and_assumed_again_before_its_keys_end() {
    let home = Home::new("[profile lab]\nrole_arn = arn:lab\nsource_profile = base\n", BASE);
    let stub = Stub::start({
        let count = std::sync::atomic::AtomicUsize::new(0);
        move |_| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let ends = ["2026-11-21T00:15:00Z", "2026-11-21T00:25:00Z", ""];
            match ends.get(number) {
                Some(&"") | None => Reply::new(503, ""),
                Some(ends) => Reply::new(200, given(number, ends)),
            }
        }
    });
    home.set("AWS_ENDPOINT_URL_STS", &stub.url(""));
    let keys = home.keys(profile("lab"));
    let access_key = async || keys.keys().await.map(|keys| keys.access_key().to_owned());
    assert_eq!(access_key().await, Ok("ASIA0".into()));
    assert_eq!(access_key().await, Ok("ASIA0".into()), "they are kept");
    let seen = stub.seen();
    assert_eq!(seen.len(), 1);
    assert!(of(&seen[0]).contains("Action=AssumeRole&RoleArn=arn%3Alab&RoleSessionName=dropferry"));
    let authorization = seen[0].header("authorization").expect("signed");
    assert!(authorization.contains("AKIDBASE/20261121/eu-central-1/sts/"), "{authorization}");
    home.pass(11 * 60);
    assert_eq!(access_key().await, Ok("ASIA1".into()), "four minutes before their end");
    home.pass(10 * 60);
    assert_eq!(access_key().await, Ok("ASIA1".into()), "they are valid, and others cannot be had");
    home.pass(5 * 60);
    let failure = access_key().await.expect_err("they have ended");
    assert_eq!(failure.kind, FailureKind::ServerFault, "{failure}");
    assert!(!format!("{keys:?}").contains("planted"));
}

#[tokio::test]
async fn refused_keys_are_fetched_again_and_not_in_a_loop() {
    let home = Home::new("[profile p]\ncredential_process = ./count\n", "");
    let log = home.path("log");
    let program = format!(
        "[profile p]\ncredential_process = echo x >> {0}; echo '{{\"Version\":1,\"AccessKeyId\":\"A\",\
         \"SecretAccessKey\":\"planted\",\"SessionToken\":\"t\",\"Expiration\":\
         \"2026-11-21T01:00:00Z\"}}'\n",
        log.display()
    );
    home.write("config", &program);
    let keys = home.keys(profile("p"));
    let count = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    let found = keys.keys().await.expect("printed");
    assert_eq!((found.access_key(), found.session(), count()), ("A", Some("t"), 1));
    keys.forget();
    keys.keys().await.expect("those of a moment ago");
    assert_eq!(count(), 1);
    home.pass(6);
    keys.keys().await.expect("others");
    keys.keys().await.expect("those");
    assert_eq!(count(), 2);
    home.write("config", &format!("{program}# another version\n"));
    keys.keys().await.expect("others");
    assert_eq!(count(), 3, "the files are watched");
    for (command, why) in [
        ("exit 3", "ended with"),
        ("echo planted", "something else than keys"),
        ("/nowhere/at/all", "ended with"),
    ] {
        home.write("config", &format!("[profile q]\ncredential_process = {command}\n"));
        let failure = home.keys(profile("q")).keys().await.expect_err(command);
        assert_eq!(failure.kind, FailureKind::Unauthorized);
        assert!(failure.message.contains(why) && !failure.message.contains("planted"), "{failure}");
    }
}

#[tokio::test]
async fn a_machine_and_a_container_give_the_keys_of_their_role() {
    let json = "{\"Code\":\"Success\",\"AccessKeyId\":\"ASIAM\",\"SecretAccessKey\":\"s\",\
        \"Token\":\"t\",\"Expiration\":\"2026-11-21T06:00:00Z\"}";
    let stub = Stub::start(move |seen| match seen.path.as_str() {
        "/latest/api/token" if seen.method == "PUT" => Reply::new(200, "planted-token"),
        _ if seen.header("x-aws-ec2-metadata-token") == Some("planted-token") => {
            match seen.path.as_str() {
                "/latest/meta-data/iam/security-credentials/" => Reply::new(200, "uploader\n"),
                "/latest/meta-data/iam/security-credentials/uploader" => Reply::new(200, json),
                _ => Reply::new(404, ""),
            }
        }
        "/role" if seen.header("authorization") == Some("pod-token") => Reply::new(200, json),
        _ => Reply::new(401, ""),
    });
    let home = Home::new("", "");
    home.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &stub.url(""));
    let keys = home.keys(KeyOrigin::Instance).keys().await.expect("given");
    assert_eq!((keys.access_key(), keys.session()), ("ASIAM", Some("t")));
    home.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &stub.url("/role"));
    let failure = home.keys(KeyOrigin::Instance).keys().await.expect_err("no token");
    assert_eq!((failure.kind, failure.status), (FailureKind::Unauthorized, Some(401)));
    home.write("pod", "pod-token\n");
    let file = home.path("pod").display().to_string();
    home.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file);
    assert!(home.keys(KeyOrigin::Chain).keys().await.is_ok());
    home.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://elsewhere.example/role");
    let failure = home.keys(KeyOrigin::Instance).keys().await.expect_err("not on this host");
    assert!(failure.message.contains("not on this host"), "{failure}");
}

#[tokio::test]
async fn a_token_in_a_file_is_read_at_each_fetch_and_a_refusal_is_said() {
    let home = Home::new("", "");
    let stub = Stub::start(|seen| match of(seen).contains("WebIdentityToken=second") {
        true => Reply::new(200, given(7, "2026-11-21T01:00:00Z")),
        false => Reply::new(
            400,
            "<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>it ended</Message>\
             </Error></ErrorResponse>",
        ),
    });
    home.write("token", "first\n");
    home.set("AWS_ENDPOINT_URL_STS", &stub.url("/"));
    home.set("AWS_ROLE_ARN", "arn:pod");
    home.set("AWS_WEB_IDENTITY_TOKEN_FILE", &home.path("token").display().to_string());
    let keys = home.keys(KeyOrigin::WebIdentity);
    let failure = keys.keys().await.expect_err("ended");
    assert_eq!(failure.kind, FailureKind::Unauthorized);
    assert!(failure.message.contains("ExpiredTokenException it ended"), "{failure}");
    home.write("token", "second\n");
    assert_eq!(keys.keys().await.expect("given").access_key(), "ASIA7");
    assert!(stub.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

/// A profile whose keys a login by SSO gives.
const SSO_PROFILE: &str = "[profile lab]\nsso_session = corp\nsso_account_id = 12\nsso_role_name = up\n\
    [sso-session corp]\nsso_start_url = https://corp.example/start\nsso_region = eu-west-1\n";

#[tokio::test]
async fn a_login_by_sso_is_used_until_it_ends_and_then_a_person_is_asked_for() {
    let home = Home::new(SSO_PROFILE, "");
    let stub = Stub::start(|seen| match seen.header("x-amz-sso_bearer_token") {
        Some("planted-login") => Reply::new(
            200,
            "{\"roleCredentials\":{\"accessKeyId\":\"ASIAS\",\"secretAccessKey\":\"s\",\
             \"sessionToken\":\"t\",\"expiration\":1795222800000}}",
        ),
        _ => Reply::new(401, "{}"),
    });
    home.set("AWS_ENDPOINT_URL_SSO", &stub.url(""));
    let keys = home.keys(profile("lab"));
    let failure = keys.keys().await.expect_err("nobody");
    assert!(failure.message.contains("aws sso login --profile lab"), "{failure}");
    let login = |token: &str, url: &str, ends: &str| {
        format!("{{\"startUrl\":\"{url}\",\"accessToken\":\"{token}\",\"expiresAt\":\"{ends}\"}}")
    };
    let ours = "https://corp.example/start";
    home.write(".aws/sso/cache/a.json", &login("other", "https://other/", "2027-01-01T00:00:00Z"));
    home.write(".aws/sso/cache/b.json", &login("old", ours, "2026-11-20T00:00:00Z"));
    home.write(".aws/sso/cache/c.json", "{\"clientId\":\"x\"}");
    let failure = keys.keys().await.expect_err("ended");
    assert!(failure.message.contains("has ended"), "{failure}");
    home.write(".aws/sso/cache/d.json", &login("planted-login", ours, "2026-11-21T08:00:00UTC"));
    assert_eq!(keys.keys().await.expect("given").access_key(), "ASIAS");
    assert_eq!(stub.lines(), ["GET /federation/credentials?account_id=12&role_name=up"]);
}

#[tokio::test]
async fn a_login_by_sso_is_renewed_before_it_ends_and_written_back() {
    let home = Home::new(SSO_PROFILE, "");
    let stub = Stub::start(|seen| match seen.header("x-amz-sso_bearer_token") {
        None if of(seen).contains("planted-refresh") => Reply::new(
            200,
            "{\"accessToken\":\"planted-second\",\"expiresIn\":3600,\"refreshToken\":\"planted-next\"}",
        ),
        None => Reply::new(400, "{\"error\":\"invalid_grant\"}"),
        // The keys end at once: each request asks for others.
        Some(token) => Reply::new(
            200,
            format!(
                "{{\"roleCredentials\":{{\"accessKeyId\":\"of {token}\",\"secretAccessKey\":\"s\",\
                 \"sessionToken\":\"t\",\"expiration\":1795219200000}}}}"
            ),
        ),
    });
    home.set("AWS_ENDPOINT_URL_SSO", &stub.url(""));
    home.set("AWS_ENDPOINT_URL_SSO_OIDC", &stub.url(""));
    home.write(
        ".aws/sso/cache/a.json",
        "{\"startUrl\":\"https://corp.example/start\",\"accessToken\":\"planted-first\",\
         \"expiresAt\":\"2026-11-21T01:00:00Z\",\"clientId\":\"c\",\"clientSecret\":\"planted-client\",\
         \"refreshToken\":\"planted-refresh\",\"region\":\"eu-west-1\"}",
    );
    let keys = home.keys(profile("lab"));
    let access_key = async || keys.keys().await.map(|keys| keys.access_key().to_owned());
    assert_eq!(access_key().await, Ok("of planted-first".into()));
    home.pass(56 * 60);
    assert_eq!(access_key().await, Ok("of planted-second".into()), "four minutes before its end");
    let seen = stub.seen();
    assert_eq!(seen[1].line(), "POST /token");
    let question: serde_json::Value = serde_json::from_slice(&seen[1].body).expect("JSON");
    assert_eq!(question["grantType"], "refresh_token");
    assert_eq!(
        (&question["clientId"], &question["clientSecret"]),
        (&"c".into(), &"planted-client".into())
    );
    let kept = std::fs::read_to_string(home.path(".aws/sso/cache/a.json")).expect("there");
    let kept: serde_json::Value = serde_json::from_str(&kept).expect("JSON");
    assert_eq!(
        (&kept["refreshToken"], &kept["region"]),
        (&"planted-next".into(), &"eu-west-1".into())
    );
    assert_eq!(kept["expiresAt"], "2026-11-21T01:56:00Z");
    home.pass(58 * 60);
    assert_eq!(
        access_key().await,
        Ok("of planted-second".into()),
        "refused, and it is valid still"
    );
    home.pass(10 * 60);
    let failure = access_key().await.expect_err("it has ended");
    assert_eq!(failure.kind, FailureKind::Unauthorized);
    assert!(failure.message.contains("aws sso login --profile lab"), "{failure}");
    assert!(!failure.message.contains("planted"), "{failure}");
}

#[tokio::test]
async fn a_clock_that_is_off_is_corrected_by_the_refusal() {
    let home = Home::new("[profile lab]\nrole_arn = arn:lab\nsource_profile = base\n", BASE);
    let stub = Stub::start(|seen| match seen.header("x-amz-date") {
        Some("20261121T030000Z") => Reply::new(200, given(1, "2026-11-21T04:00:00Z")),
        _ => Reply::new(
            403,
            "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>expired</Message>\
             </Error></ErrorResponse>",
        )
        .with("date", "Sat, 21 Nov 2026 03:00:00 GMT"),
    });
    home.set("AWS_ENDPOINT_URL_STS", &stub.url("/"));
    assert!(home.keys(profile("lab")).keys().await.is_ok());
    assert_eq!(stub.seen().len(), 2);
}
