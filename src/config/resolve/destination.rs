//! Targets: platform, location, policy.

mod platforms;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeTable;

use super::Resolver;
use crate::config::problem::nearest;
use crate::config::{Destination, Platform, lenient, raw};
use crate::engine::settings::ExportSettings;
use crate::model::{
    ChangePolicy, DestinationName, NamePolicies, NamePolicy, PartSize, TargetAddress,
};
use crate::platform::http;

/// A word for a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlatformWord {
    pub(crate) word: &'static str,
    /// The platform's name.
    pub(crate) platform: &'static str,
    /// Its address, if it has only one.
    pub(crate) base_url: Option<&'static str>,
}

impl PlatformWord {
    const fn new(word: &'static str, platform: &'static str, base_url: &'static str) -> Self {
        Self { word, platform, base_url: Some(base_url) }
    }

    const fn plain(word: &'static str) -> Self {
        Self { word, platform: word, base_url: None }
    }
}

/// The words for platforms: their own names, and those of Seven Bridges' instances.
pub(crate) const PLATFORM_WORDS: [PlatformWord; 7] = [
    PlatformWord::plain("sevenbridges"),
    PlatformWord::plain("basespace"),
    PlatformWord::plain("gjirafa-vp"),
    PlatformWord::plain("s3"),
    PlatformWord::new("cavatica", "sevenbridges", "https://cavatica-api.sbgenomics.com/v2"),
    PlatformWord::new("cgc", "sevenbridges", "https://cgc-api.sbgenomics.com/v2"),
    PlatformWord::new("bdc", "sevenbridges", "https://api.sb.biodatacatalyst.nhlbi.nih.gov/v2"),
];

/// Words in braces that folders, prefixes, metadata and tags may contain.
const TEMPLATE_WORDS: [&str; 8] =
    ["drop", "run", "date", "run_id", "instrument", "flowcell", "sample", "host"];

/// Returns the first unknown word in braces.
fn unknown_word(template: &str) -> Option<&str> {
    let mut words = template.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
    words.find(|word| !TEMPLATE_WORDS.contains(word))
}

/// The keys of a destination that belong to its platform.
enum PlatformKeys {
    SevenBridges(raw::SevenBridgesKeys),
    BaseSpace(raw::BaseSpaceKeys),
    GjirafaVp(raw::GjirafaVpKeys),
    S3(Box<raw::S3Keys>),
}

/// The target, from the platform's keys.
struct TargetKeys {
    platform: Platform,
    /// The template of the folder that contains a file's own directories.
    folder: String,
    metadata: BTreeMap<String, String>,
    tags: Vec<String>,
    export: Option<ExportSettings>,
}

impl TargetKeys {
    fn new(platform: Platform, folder: String) -> Self {
        Self { platform, folder, metadata: BTreeMap::new(), tags: Vec::new(), export: None }
    }
}

/// A destination while its target is read.
struct Of<'a> {
    name: &'a str,
    base_url: String,
    allow_plain_http: bool,
    span: Range<usize>,
}

impl Resolver<'_> {
    pub(super) fn destination(
        &mut self,
        name: String,
        raw: Spanned<raw::DestinationKeys>,
        table: DeTable<'_>,
    ) -> Option<Destination> {
        let (span, mut raw) = (raw.span(), raw.into_inner());
        self.check_name("destination", &name, &span);
        self.required("platform", ("destination", &name), raw.platform.as_ref(), &span)?;
        let words = PLATFORM_WORDS.map(|known| (known.word, known));
        let PlatformWord { platform, base_url, .. } =
            self.choice("platform", raw.platform.as_ref(), &words)?;
        let keys = self.platform_keys(platform, &name, table);
        let credential = self.credential(&name, platform, raw.credential.take(), &span);
        let allow_plain_http = self.plain_http(platform, raw.allow_plain_http.as_ref());
        let base_url = match base_url.filter(|_| raw.base_url.is_none()) {
            Some(known) => known.to_owned(),
            None => self.base_url(&name, raw.base_url.as_ref(), &span, allow_plain_http)?,
        };
        if platform == "sevenbridges" {
            self.check_version(raw.base_url.as_ref());
        }
        let of = Of { name: &name, base_url, allow_plain_http, span: span.clone() };
        let target = match keys? {
            PlatformKeys::SevenBridges(keys) => self.sevenbridges(of, keys),
            PlatformKeys::BaseSpace(keys) => self.basespace(of, keys),
            PlatformKeys::GjirafaVp(keys) => self.gjirafa_vp(of, keys),
            PlatformKeys::S3(keys) => self.s3(of, *keys),
        }?;
        let target = self.with_words(&name, target, &span);
        Some(Destination {
            folder: target.folder,
            same_as: self.same_as(&target.platform, raw.same_as.as_ref()),
            platform: target.platform,
            credential: credential?,
            policies: NamePolicies {
                taken: self.name_policy(raw.when_name_taken.as_ref()),
                changed: self.change_policy(raw.when_changed.as_ref()),
            },
            export: target.export,
            metadata: target.metadata.into_iter().collect(),
            tags: target.tags,
            calls_per_second: self.calls_per_second(raw.calls_per_second.as_ref()),
            part_size_min: self.part_size_min(raw.part_size_min),
            name: DestinationName::new(name),
        })
    }

    fn platform_keys(
        &mut self,
        platform: &str,
        name: &str,
        table: DeTable<'_>,
    ) -> Option<PlatformKeys> {
        match platform {
            "sevenbridges" => self.keys(name, table).map(PlatformKeys::SevenBridges),
            "basespace" => self.keys(name, table).map(PlatformKeys::BaseSpace),
            "gjirafa-vp" => self.keys(name, table).map(PlatformKeys::GjirafaVp),
            _ => self.keys(name, table).map(Box::new).map(PlatformKeys::S3),
        }
    }

    /// Reads the keys of a destination's platform. A key that the platform does not have is
    /// refused: ignoring it would break a promise.
    fn keys<T: DeserializeOwned>(&mut self, name: &str, mut table: DeTable<'_>) -> Option<T> {
        for key in raw::DestinationKeys::KEYS {
            table.remove(key);
        }
        let place = format!("destinations.{name}.");
        match lenient::read(self.sources, &mut table, &place, &raw::DestinationKeys::KEYS) {
            Ok((keys, wrong)) => {
                self.add(wrong);
                Some(keys)
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn base_url(
        &mut self,
        name: &str,
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
        allow_plain_http: bool,
    ) -> Option<String> {
        let url = self.required("base_url", ("destination", name), value, span)?;
        if let Err(failure) = http::base_url(&url, allow_plain_http) {
            // A secret in place of the host, or beside it, is not repeated.
            let is_address = url.starts_with("http://") || url.starts_with("https://");
            let is_safe = is_address && !url.contains('@');
            let shown = if is_safe { format!(" = {url:?}") } else { String::new() };
            let message = format!("base_url{shown}: {}", failure.message);
            let hint = "an https:// address; http:// on this machine only, or at an S3 storage with \
                allow_plain_http = true";
            self.problem(value.map(Spanned::span), message, Some(hint.into()));
            return None;
        }
        if allow_plain_http && http::parse_url(&url).is_err() {
            let message = format!(
                "destination {name:?} sends its files IN THE CLEAR (allow_plain_http): whoever is on the \
                 way to {url} can read them"
            );
            self.warn(value.map_or(span.clone(), Spanned::span), message);
        }
        Some(url)
    }

    fn check_version(&mut self, value: Option<&Spanned<String>>) {
        let Some(value) = value else { return };
        let url = value.as_ref().trim_end_matches('/');
        let of_vendor = ["sbgenomics.com", "biodatacatalyst.nhlbi.nih.gov"];
        if of_vendor.iter().any(|host| url.contains(host)) && !url.ends_with("/v2") {
            let message = "base_url: the address of Seven Bridges' API ends in /v2".to_owned();
            self.problem(Some(value.span()), message, Some(format!("base_url = \"{url}/v2\"")));
        }
    }

    fn plain_http(&mut self, platform: &str, value: Option<&Spanned<bool>>) -> bool {
        let Some(value) = value.filter(|value| *value.as_ref()) else { return false };
        if platform != "s3" {
            let message = format!("allow_plain_http is not possible for {platform:?}");
            let hint = "its token would go in the clear; with S3 no secret does".to_owned();
            self.problem(Some(value.span()), message, Some(hint));
        }
        platform == "s3"
    }

    /// Fills in this machine's name, and refuses unknown words, which would appear literally in
    /// names.
    fn with_words(&mut self, name: &str, target: TargetKeys, span: &Range<usize>) -> TargetKeys {
        let host = crate::notify::host();
        let mut fill = |key: &str, template: String| {
            if let Some(word) = unknown_word(&template) {
                let message = format!("{key} of destination {name:?} has the word {{{word}}}");
                let known = TEMPLATE_WORDS.map(|word| format!("{{{word}}}")).join(" ");
                let hint = match nearest(word, &TEMPLATE_WORDS) {
                    Some(near) => format!("did you mean {{{near}}}?"),
                    None => format!("allowed: {known}"),
                };
                let at = self.sources.found(&format!("{{{word}}}"), span.start);
                self.problem(at.or(Some(span.clone())), message, Some(hint));
            }
            template.replace("{host}", &host)
        };
        let TargetKeys { platform, folder, metadata, tags, export } = target;
        let folder = fill("the folder", folder);
        let pair = |(key, value)| (key, fill("metadata", value));
        let metadata = metadata.into_iter().map(pair).collect();
        let tags = tags.into_iter().map(|tag| fill("a tag", tag)).collect();
        let export = export.map(|export| {
            let prefix = fill("the prefix of the export", export.prefix);
            ExportSettings { prefix, ..export }
        });
        TargetKeys { platform, folder, metadata, tags, export }
    }

    /// Returns the targets at former addresses that are declared to be the same.
    fn same_as(
        &mut self,
        platform: &Platform,
        value: Option<&Spanned<raw::Texts>>,
    ) -> Vec<TargetAddress> {
        let Some(value) = value else { return Vec::new() };
        let urls = value.as_ref().list();
        for url in urls {
            if let Err(failure) = http::base_url(url, platform.allows_plain_http()) {
                let message = format!("same_as = {url:?}: {}", failure.message);
                let hint = "a former base_url of the same target".to_owned();
                self.problem(Some(value.span()), message, Some(hint));
            }
        }
        urls.iter().map(|url| platform.address(url)).collect()
    }

    fn name_policy(&mut self, value: Option<&Spanned<String>>) -> NamePolicy {
        let policies = [
            ("skip-if-same", NamePolicy::SkipIfSame),
            ("overwrite", NamePolicy::Overwrite),
            ("rename", NamePolicy::Rename),
            ("park", NamePolicy::Park),
        ];
        self.choice("when_name_taken", value, &policies).unwrap_or(NamePolicy::SkipIfSame)
    }

    fn change_policy(&mut self, value: Option<&Spanned<String>>) -> ChangePolicy {
        let policies = [
            ("replace", ChangePolicy::Replace),
            ("keep-both", ChangePolicy::KeepBoth),
            ("park", ChangePolicy::Park),
        ];
        self.choice("when_changed", value, &policies).unwrap_or(ChangePolicy::Replace)
    }

    fn calls_per_second(&mut self, value: Option<&Spanned<f64>>) -> Option<f64> {
        let value = value?;
        let rate = *value.as_ref();
        if rate.is_finite() && (0.01..=1_000_000.0).contains(&rate) {
            return Some(rate);
        }
        let hint = Some("a number from 0.01 to 1000000".to_owned());
        self.problem(
            Some(value.span()),
            format!("calls_per_second = {rate} is not possible"),
            hint,
        );
        None
    }

    fn part_size_min(&mut self, value: Option<Spanned<String>>) -> Option<PartSize> {
        value.as_ref()?;
        PartSize::new(self.size("part_size_min", value, 0, 1))
    }
}
