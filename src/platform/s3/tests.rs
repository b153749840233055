use super::*;
use crate::clock::Clock;
use crate::model::{ETag, PartNumber, PartSize};
use crate::platform::bench::{self, body};
use crate::platform::contract::RightState;
use crate::platform::http::stub::{Reply, Seen, Stub};

type Bench = bench::Bench<S3>;

fn bench(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Bench {
    bench_with(Encryption::Bucket, handler)
}

fn bench_with(
    encryption: Encryption,
    handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> Bench {
    let stub = Stub::start(handler);
    let text = "[default]\naws_access_key_id = AKID\naws_secret_access_key = planted-secret\n";
    let settings = Settings { encryption, ..settings(&stub) };
    let (link, file) = bench::link(text, Some(10_000.0), Clock::real().into());
    let platform = S3::new(&settings, link).expect("a client");
    Bench { stub, platform, file }
}

fn settings(stub: &Stub) -> Settings {
    Settings {
        base_url: stub.url("/"),
        region: "eu-central-1".into(),
        bucket: "bkt".into(),
        path_style: true,
        allow_plain_http: false,
        object: ObjectSettings::default(),
        requester_pays: false,
        encryption: Encryption::Bucket,
        checks: CheckSettings { prefix: "runs/".into(), tags: vec!["lab".into()] },
    }
}

fn request(size: u64) -> BeginRequest {
    bench::request(bench::target(&["runs", "a b"], "x+y#1.gz"), size, 10)
}

const KEY: &str = "runs/a b/x+y#1.gz";

fn remote(id: &str, part_count: u32) -> RemoteUpload {
    let part_size = PartSize::new(10).expect("not zero");
    RemoteUpload { id: RemoteUploadId::new(id), part_size, part_count, sequential: false }
}

fn many() -> RemoteUpload {
    remote(&format!("{KEY}?uploadId=u1"), 3)
}

fn parts() -> Vec<RemotePart> {
    let part = |number, digit: &str| bench::part(number, &digit.repeat(32));
    vec![part(1, "a"), part(2, "b"), part(3, "c")]
}

fn completing() -> CompleteRequest {
    let (begun, since) = (request(25), WallTime(0));
    CompleteRequest { remote: many(), parts: parts(), unreported: Vec::new(), begun, since }
}

/// Method, path and query, without the signature.
fn short(seen: &Seen) -> String {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let own = query.split('&').filter(|pair| !pair.starts_with("X-Amz-"));
    format!("{} {path}?{}", seen.method, own.collect::<Vec<_>>().join("&"))
}

fn lines(bench: &Bench) -> Vec<String> {
    bench.stub.seen().iter().map(short).collect()
}

fn error(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>")
}

/// The ETag of the parts together.
const OURS: &str = "\"406c09107ca667bd66d951c3d78170a3-3\"";

const PATH: &str = "/bkt/runs/a%20b/x%2By%231.gz";

#[tokio::test]
async fn an_upload_of_many_parts_from_begin_to_complete() {
    let bench = bench(|seen| match seen.method.as_str() {
        "POST" if seen.path.contains("uploads=") => Reply::new(
            200,
            "<InitiateMultipartUploadResult xmlns=\"x\"><UploadId>u1</UploadId></InitiateMultipartUploadResult>",
        ),
        "POST" => Reply::new(200, " \n<R><ETag>\"e-3\"</ETag></R>"),
        "PUT" => Reply::new(200, "").with("ETag", "\"abc\""),
        _ => Reply::new(404, ""),
    });
    let begun = bench.platform.begin(&request(25)).await.expect("begun");
    assert_eq!(begun, many());
    let sending =
        PartRequest { remote: begun, part: PartNumber::from_index(1), begun: Some(request(25)) };
    let put = bench.platform.put_part(&sending, body(b"xyz")).await.expect("taken");
    assert_eq!(put.etag.as_str(), "abc");
    let done = bench.platform.complete(&completing()).await.expect("completed");
    assert_eq!((done.id.as_str(), done.name.as_str()), (KEY, "x+y#1.gz"));
    assert_eq!(
        lines(&bench),
        [
            format!("POST {PATH}?uploads="),
            format!("PUT {PATH}?partNumber=2&uploadId=u1"),
            format!("HEAD {PATH}?"),
            format!("POST {PATH}?uploadId=u1"),
        ]
    );
    let seen = bench.stub.seen();
    assert_eq!(seen[0].header("x-amz-meta-dropferry-part-size"), Some("10"));
    assert_eq!(seen[1].header("content-md5"), Some("0W+zbwkR+HiZjBNhka9wXg=="));
    assert_eq!(seen[3].header("if-none-match"), Some("*"));
    assert_eq!(seen[3].header("x-amz-mp-object-size"), Some("25"));
    let text = String::from_utf8(seen[3].body.clone()).expect("text");
    assert!(text.contains("<PartNumber>3</PartNumber><ETag>&quot;cccc"), "{text}");
    assert!(seen.iter().all(|seen| !seen.path.contains("planted-secret")));
    let signed = |seen: &Seen| seen.header("authorization").is_some_and(|a| a.starts_with("AWS4-"));
    assert!(seen.iter().all(signed));
    assert!(seen.iter().all(|seen| !seen.path.contains("X-Amz-")), "it is not in the address");
}

#[tokio::test]
async fn what_stands_at_the_place_before_a_complete_is_not_replaced() {
    for (etag, size, expected) in [
        ("\"0123456789abcdef0123456789abcdef-3\"", 25, Some(FailureKind::NameTaken)),
        (OURS, 9, Some(FailureKind::NameTaken)),
        // What our own parts make: a complete of ours may have arrived.
        (OURS, 25, None),
    ] {
        let bench = bench(move |seen| match seen.method.as_str() {
            "HEAD" => Reply::new(200, vec![b'.'; size])
                .with("ETag", etag)
                .with("x-amz-meta-dropferry-part-size", "10"),
            _ => Reply::new(
                200,
                "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>",
            ),
        });
        let kind = bench.platform.complete(&completing()).await.err().map(|failure| failure.kind);
        assert_eq!(kind, expected, "{etag} {size}");
        let posts = lines(&bench).iter().filter(|line| line.starts_with("POST")).count();
        assert_eq!(posts, usize::from(expected.is_none()), "{etag} {size}");
    }
}

#[tokio::test]
async fn a_complete_counts_by_its_body_and_never_by_its_status() {
    let good = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";
    for (status, answer, expected) in [
        (200, good.to_owned(), None),
        (200, error("InternalError"), Some(FailureKind::ServerFault)),
        (200, String::new(), Some(FailureKind::BadAnswer)),
        (200, good[..40].to_owned(), Some(FailureKind::BadAnswer)),
        (200, "<html>log in</html>".to_owned(), Some(FailureKind::BadAnswer)),
        (400, error("InvalidPart"), Some(FailureKind::CompleteRefused)),
        (400, error("EntityTooSmall"), Some(FailureKind::PartsTooSmall)),
        (404, error("NoSuchUpload"), Some(FailureKind::UploadGone)),
        (404, "<html>".to_owned(), Some(FailureKind::BadAnswer)),
        (409, error("ConditionalRequestConflict"), Some(FailureKind::NameTaken)),
        (412, error("PreconditionFailed"), Some(FailureKind::NameTaken)),
        (503, error("InternalError"), Some(FailureKind::ServerFault)),
    ] {
        let told = answer.clone();
        let bench = bench(move |seen| match seen.method.as_str() {
            "HEAD" => Reply::new(404, ""),
            _ => Reply::new(status, told.clone()),
        });
        let kind = bench.platform.complete(&completing()).await.err().map(|failure| failure.kind);
        assert_eq!(kind, expected, "{status} {answer}");
    }
}

#[tokio::test]
async fn refusals_mean_what_the_storage_says() {
    let slow = FailureKind::Throttled { after: None };
    for (status, code, expected) in [
        (503, "SlowDown", slow),
        (429, "TooManyRequests", slow),
        (400, "RequestTimeout", FailureKind::ServerFault),
        (403, "RequestTimeTooSkewed", FailureKind::ServerFault),
        (400, "BadDigest", FailureKind::PartRejected),
        (400, "ExpiredToken", FailureKind::Unauthorized),
        (403, "InvalidAccessKeyId", FailureKind::Unauthorized),
        (403, "SignatureDoesNotMatch", FailureKind::Forbidden),
        (403, "AccessDenied", FailureKind::Forbidden),
        (307, "TemporaryRedirect", FailureKind::ServerFault),
        (404, "NoSuchUpload", FailureKind::UploadGone),
        (404, "NoSuchBucket", FailureKind::NotFound),
        (400, "InvalidArgument", FailureKind::BadRequest),
        (501, "NotImplemented", FailureKind::BadRequest),
        (500, "Whatever", FailureKind::ServerFault),
        (507, "XFull", FailureKind::Quota),
    ] {
        let bench = bench(move |_| Reply::new(status, error(code)));
        let sending = PartRequest {
            remote: many(),
            part: PartNumber::from_index(0),
            begun: Some(request(25)),
        };
        // Without a line that the storage may not support.
        let body = crate::platform::contract::PartBody { md5: None, ..body(b"x") };
        let failure = bench.platform.put_part(&sending, body).await.expect_err(code);
        assert_eq!(failure.kind, expected, "{status} {code}");
    }
}

#[tokio::test]
async fn a_wrong_region_is_named() {
    let bench = bench(|_| Reply::new(301, "").with("x-amz-bucket-region", "us-west-2"));
    let failure = bench.platform.begin(&request(25)).await.expect_err("elsewhere");
    assert_eq!(failure.kind, FailureKind::Unauthorized);
    assert!(failure.message.contains("us-west-2"), "{failure}");
}

#[tokio::test]
async fn parts_are_listed_page_after_page_and_never_in_circles() {
    let page = |seen: &Seen| match seen.path.contains("part-number-marker=1") {
        false => {
            "<L><IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker>\
                  <Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag></Part></L>"
        }
        true => {
            "<L><IsTruncated>false</IsTruncated>\
                 <Part><PartNumber>3</PartNumber><ETag>\"c\"</ETag></Part></L>"
        }
    };
    let listing = bench(move |seen| Reply::new(200, page(seen)));
    let listed = listing.platform.list_parts(&many()).await.expect("listed").expect("told");
    let listed: Vec<_> =
        listed.iter().map(|part| (part.number.get(), part.etag.as_str())).collect();
    assert_eq!(listed, [(1, "a"), (3, "c")]);
    let circle =
        "<L><IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker></L>";
    let circling = bench(move |_| Reply::new(200, circle));
    let listed = circling.platform.list_parts(&many()).await;
    assert_eq!(listed, Ok(None), "a list without end is not believed");
    assert_eq!(circling.stub.seen().len(), 2);
    let cut = "<L><IsTruncated>true</IsTruncated>\
               <Part><PartNumber>1</PartNumber><ETag>a</ETag></Part></L>";
    let cut = bench(move |_| Reply::new(200, cut));
    let listed = cut.platform.list_parts(&many()).await;
    assert_eq!(listed, Ok(None), "what is left out is not taken for missing");
    let bare = bench(|_| Reply::new(200, "<L><Part><PartNumber>1</PartNumber></Part></L>"));
    assert_eq!(
        bare.platform.list_parts(&many()).await,
        Ok(None),
        "a list without ETags proves nothing"
    );
}

#[tokio::test]
async fn a_part_that_is_answered_without_an_etag_is_looked_up_in_the_list() {
    for (lists, expected) in [(true, Ok("c")), (false, Err(FailureKind::PartRejected))] {
        let bench = bench(move |seen| match seen.method.as_str() {
            "PUT" => Reply::new(200, ""),
            _ if lists && seen.path.contains("part-number-marker=2") => Reply::new(
                200,
                "<L><IsTruncated>true</IsTruncated><NextPartNumberMarker>3</NextPartNumberMarker>\
                 <Part><PartNumber>3</PartNumber><ETag>\"c\"</ETag></Part></L>",
            ),
            _ => Reply::new(403, error("AccessDenied")),
        });
        let part = PartNumber::new(3).expect("not zero");
        let sending = PartRequest { remote: many(), part, begun: None };
        let answered = bench.platform.put_part(&sending, body(b"12345")).await;
        let answered = answered.map(|stored| stored.etag.as_str().to_owned());
        assert_eq!(answered.map_err(|failure| failure.kind), expected.map(str::to_owned));
        assert_eq!(bench.stub.seen().len(), 2, "one question");
    }
}

#[tokio::test]
async fn what_became_of_a_complete_is_asked_of_upload_and_object() {
    let mark = super::wire::mark_of_parts(&parts(), PartSize::new(10).expect("not zero"));
    let ours = format!("\"{}-3\"", mark.expect("digests").md5_of_parts);
    let other = format!("\"{}-3\"", "d".repeat(32));
    for (is_open, object, expected) in [
        (true, None, "pending"),
        (false, None, "gone"),
        (false, Some((ours.clone(), 25)), "done"),
        (false, Some((ours, 24)), "gone"),
        (false, Some((other, 25)), "gone"),
        // The ETag proves nothing; size and time do.
        (false, Some(("\"opaque\"".to_owned(), 25)), "done"),
    ] {
        let shown = object.clone();
        let bench = bench(move |seen| match (seen.method.as_str(), &shown) {
            ("GET", _) if is_open => Reply::new(200, "<L></L>"),
            ("GET", _) => Reply::new(404, error("NoSuchUpload")),
            ("HEAD", Some((etag, size))) => Reply::new(200, vec![b'.'; *size])
                .with("ETag", etag.clone())
                .with("x-amz-meta-dropferry-part-size", "10")
                .with("Last-Modified", "Sat, 21 Nov 2026 07:00:00 GMT"),
            _ => Reply::new(404, ""),
        });
        let word = match bench.platform.find_completed(&completing()).await.expect("told") {
            Completion::Done(_) => "done",
            Completion::Pending => "pending",
            Completion::Gone => "gone",
            Completion::Unknown(_) => "unknown",
        };
        assert_eq!(word, expected, "{object:?}");
    }
}

#[tokio::test]
async fn a_file_of_one_part_is_one_request_and_known_by_its_token() {
    let bench = bench(|seen| match seen.method.as_str() {
        "PUT" => Reply::new(412, error("PreconditionFailed")),
        _ => Reply::new(200, "x").with("ETag", "\"e\"").with("x-amz-meta-dropferry-upload", "t1"),
    });
    let single = remote(&format!("{KEY}?put=t1"), 1);
    let begun = bench.platform.begin(&request(5)).await.expect("nothing is asked");
    assert!(begun.id.as_str().starts_with(&format!("{KEY}?put=")) && begun.part_count == 1);
    assert!(bench.stub.seen().is_empty());
    let sending = PartRequest {
        remote: single.clone(),
        part: PartNumber::from_index(0),
        begun: Some(request(5)),
    };
    let put = bench.platform.put_part(&sending, body(b"x")).await;
    assert_eq!(put.expect("an earlier attempt of ours arrived").etag.as_str(), "e");
    let others = PartRequest { remote: remote(&format!("{KEY}?put=t2"), 1), ..sending };
    let failure = bench.platform.put_part(&others, body(b"x")).await.expect_err("somebody else's");
    assert_eq!(failure.kind, FailureKind::NameTaken);
    let listed = bench.platform.list_parts(&single).await.expect("listed").expect("told");
    assert_eq!(listed.len(), 1);
    assert_eq!(bench.platform.abort(&single.id).await, Ok(()), "an object is never removed");
    assert!(bench.stub.seen().iter().all(|seen| seen.method != "DELETE"));
}

#[tokio::test]
async fn an_object_proves_its_content_by_its_etag_and_part_size() {
    let digest = "d".repeat(32);
    for (etag, part_size, is_encrypted, expected) in [
        (format!("{digest}-3"), Some("10"), false, Some(10)),
        // The first part would show its size; here the answer is the whole.
        (format!("{digest}-3"), None, false, None),
        (format!("{digest}-4"), Some("10"), false, None),
        (digest.clone(), None, false, Some(25)),
        (digest.clone(), Some("64"), false, Some(64)),
        (digest, None, true, None),
        ("opaque".to_owned(), None, false, None),
    ] {
        let shown = etag.clone();
        let bench = bench(move |_| {
            let mut reply = Reply::new(200, vec![b'.'; 25]).with("ETag", format!("\"{shown}\""));
            if let Some(part_size) = part_size {
                reply = reply.with("x-amz-meta-dropferry-part-size", part_size);
            }
            match is_encrypted {
                true => reply.with("x-amz-server-side-encryption", "aws:kms"),
                false => reply,
            }
        });
        let file = bench.platform.locate(&request(25).target).await.expect("there").expect("there");
        let found = file.mark.map(|mark| mark.part_size.get());
        assert_eq!(found, expected, "{etag} {part_size:?}");
    }
}

#[tokio::test]
async fn a_key_of_the_customer_goes_with_every_request_about_content() {
    let key = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(key.path(), [7; 32]).expect("written");
    let created = "<R><UploadId>u1</UploadId></R>";
    let bench = bench_with(Encryption::Customer(key.path().to_owned()), move |seen| {
        match seen.method.as_str() {
            "POST" => Reply::new(200, created),
            "PUT" => Reply::new(200, "").with("ETag", "\"e\""),
            _ => Reply::new(404, ""),
        }
    });
    bench.platform.locate(&request(25).target).await.expect("asked");
    let remote = bench.platform.begin(&request(25)).await.expect("begun");
    let sending = PartRequest { remote, part: PartNumber::from_index(0), begun: Some(request(25)) };
    bench.platform.put_part(&sending, body(b"x")).await.expect("taken");
    for seen in bench.stub.seen() {
        let name = "x-amz-server-side-encryption-customer-algorithm";
        assert_eq!(seen.header(name), Some("AES256"), "{}", seen.line());
    }
    std::fs::write(key.path(), [7; 31]).expect("written");
    let failure = bench.platform.begin(&request(25)).await.expect_err("too short");
    assert_eq!(failure.kind, FailureKind::Unauthorized);
}

#[test]
fn keys_are_refused_that_others_rewrite() {
    let long = "k".repeat(1024);
    for (folders, name, is_good) in [
        (&["a", "b"][..], "c d.gz", true),
        (&[], &long, true),
        (&["x"], &long, false),
        (&["a", ".."], "c", false),
        (&["."], "c", false),
        (&[], "", false),
    ] {
        assert_eq!(address::key_of(&Target::new(folders, name)).is_ok(), is_good, "{folders:?}");
    }
}

#[test]
fn the_end_of_a_signed_address_is_read_in_both_forms() {
    for (query, end) in [
        ("X-Amz-Date=19700101T000100Z&X-Amz-Expires=30", Some(90)),
        ("Expires=77", Some(77)),
        ("X-Amz-Expires=30", None),
        ("a=b", None),
    ] {
        let url = Url::parse(&format!("https://far.example/1?{query}")).expect("a URL");
        assert_eq!(signed_until(&url).map(|at| at.0 / 1_000_000_000), end, "{query}");
    }
}

fn whole(looks: bool) -> WholeRequest {
    WholeRequest { begun: request(5), looks }
}

async fn sent_whole(bench: &Bench, looks: bool) -> Result<Whole, Failure> {
    let request = whole(looks);
    let md5 = crate::model::Md5([0xab; 16]);
    let body = crate::platform::contract::PartBody { md5: Some(md5), ..body(b"12345") };
    bench.platform.put_whole(&request, body).await
}

const DIGEST: &str = "abababababababababababababababab";

#[tokio::test]
async fn a_whole_file_whose_digest_comes_back_is_proved_by_one_request() {
    let bench = bench(|_| Reply::new(200, "").with("etag", format!("\"{DIGEST}\"")));
    let Whole { remote, stored: Stored { etag, .. }, file } =
        sent_whole(&bench, false).await.expect("sent");
    assert_eq!((remote.part_count, etag.as_str()), (1, DIGEST));
    assert_eq!(file.size, Some(ByteCount(5)));
    assert!(file.mark.is_some() && file.id.as_str() == KEY);
    assert_eq!(lines(&bench), [format!("PUT {PATH}?")]);
    let seen = bench.stub.seen();
    assert_eq!(seen[0].header("if-none-match"), Some("*"));
    assert!(seen[0].header("content-md5").is_some());
}

#[tokio::test]
async fn an_etag_that_is_no_digest_proves_no_size() {
    let bench = bench(|_| {
        let reply = Reply::new(200, "").with("etag", format!("\"{DIGEST}\""));
        reply.with("x-amz-server-side-encryption", "aws:kms")
    });
    let file = sent_whole(&bench, false).await.expect("sent").file;
    assert_eq!((file.size, file.mark), (None, None));
    let bench = self::bench(|_| Reply::new(200, "").with("etag", "\"another\""));
    assert_eq!(sent_whole(&bench, false).await.expect("sent").file.size, None);
}

#[tokio::test]
async fn a_whole_file_is_sent_only_where_nothing_stands_or_ours() {
    let there = |token: &'static str| {
        bench(move |seen| match seen.method.as_str() {
            "HEAD" => Reply::new(200, "")
                .with("etag", format!("\"{DIGEST}\""))
                .with("x-amz-meta-dropferry-upload", token)
                .with("content-length", "5"),
            _ => Reply::new(412, error("PreconditionFailed")),
        })
    };
    let other = there("another");
    let failure = sent_whole(&other, true).await.expect_err("somebody's");
    assert_eq!(failure.kind, FailureKind::NameTaken);
    assert_eq!(lines(&other), [format!("HEAD {PATH}?")], "nothing was sent");
    let failure = sent_whole(&other, false).await.expect_err("somebody's");
    assert_eq!(failure.kind, FailureKind::NameTaken);
    for looks in [true, false] {
        let ours = there("token");
        let found = sent_whole(&ours, looks).await.expect("ours");
        assert_eq!((found.stored.etag.as_str(), found.file.id.as_str()), (DIGEST, KEY));
    }
}

/// Where a storage gives no ETags, what is to be replaced cannot be named by one.
#[tokio::test]
async fn an_object_without_an_etag_is_replaced_only_where_our_own_request_made_it() {
    let there = |token: &'static str| {
        bench(move |seen| match seen.method.as_str() {
            "HEAD" => Reply::new(200, "12345")
                .with("x-amz-request-id", "R1")
                .with("x-amz-meta-dropferry-upload", token),
            "PUT" => Reply::new(200, "").with("etag", format!("\"{DIGEST}\"")),
            _ => Reply::new(200, "<R><ETag>\"e-3\"</ETag></R>"),
        })
    };
    let none = Some(ETag::from_header(""));
    for (token, is_ours) in [("another", false), ("", false), ("token", true)] {
        let (begun, far) = (BeginRequest { replaces: none.clone(), ..request(5) }, there(token));
        let body = PartBody { md5: Some(crate::model::Md5([0xab; 16])), ..body(b"12345") };
        let sent = far.platform.put_whole(&WholeRequest { begun, looks: false }, body).await;
        let kind = sent.err().map(|failure| failure.kind);
        assert_eq!(kind, (!is_ours).then_some(FailureKind::NameTaken), "{token:?}");
        let put = lines(&far).iter().filter(|line| line.starts_with("PUT")).count();
        assert_eq!(put, usize::from(is_ours), "{token:?}");

        let begun = BeginRequest { replaces: none.clone(), ..request(25) };
        let far = there(token);
        let done = far.platform.complete(&CompleteRequest { begun, ..completing() }).await;
        let kind = done.err().map(|failure| failure.kind);
        assert_eq!(kind, (!is_ours).then_some(FailureKind::NameTaken), "{token:?}, of parts");
    }
}

#[tokio::test]
async fn a_folder_that_is_sent_many_files_is_listed_once() {
    let bench = bench(|seen| match seen.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "GET" if seen.path.contains("continuation-token") => Reply::new(
            200,
            "<ListBucketResult><IsTruncated>false</IsTruncated>\
             <Contents><Key>runs/a b/x+y#1.gz</Key></Contents></ListBucketResult>",
        ),
        "GET" => Reply::new(
            200,
            "<ListBucketResult><IsTruncated>true</IsTruncated>\
             <NextContinuationToken>next</NextContinuationToken>\
             <Contents><Key>runs/a b/other</Key></Contents></ListBucketResult>",
        ),
        _ => Reply::new(200, "").with("etag", format!("\"{DIGEST}\"")),
    });
    for number in 0..30 {
        let target = bench::target(&["runs", "a b"], &format!("file {number}"));
        let request = WholeRequest { begun: bench::request(target, 5, 10), looks: true };
        bench.platform.put_whole(&request, body(b"12345")).await.expect("sent");
    }
    let count = |method: &str| bench.stub.seen().iter().filter(|s| s.method == method).count();
    assert_eq!((count("HEAD"), count("GET"), count("PUT")), (11, 2, 30));
    let before = bench.stub.seen().len();
    sent_whole(&bench, true).await.expect("not there after all");
    assert_eq!(bench.stub.seen().len(), before + 2, "what the list names is asked about");
}

#[test]
fn one_answer_costs_little_memory_whatever_it_holds() {
    use crate::platform::http::ANSWER_MAX;
    let name = "platform::s3::tests::one_answer_costs_little_memory_whatever_it_holds";
    let pieces = [
        "<a/>".to_owned(),
        "<a></a>".to_owned(),
        "<Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>".to_owned(),
        format!("<Contents><Key>{}</Key></Contents>", "k".repeat(150)),
        format!("<Upload><Key>{}</Key><UploadId>u</UploadId></Upload>", "k".repeat(600)),
        format!("<{}/>", "n".repeat(60)),
        format!("<{}/>", "n".repeat(100_000)),
        format!("<a>{}</a>", "&amp;".repeat(100_000)),
        "<a><b><c><d><e><f></f></e></d></c></b></a>".to_owned(),
    ];
    let peak = bench::peak_mib(name, || {
        for piece in &pieces {
            for count in [2_700, 5_400, 16_000, usize::MAX] {
                let count = count.min(ANSWER_MAX.saturating_sub(100) / piece.len());
                let mut body = String::with_capacity(ANSWER_MAX);
                body.push_str("<ListBucketResult><IsTruncated>false</IsTruncated>");
                (0..count).for_each(|_| body.push_str(piece));
                body.push_str("</ListBucketResult>");
                let body = body.as_bytes();
                drop(wire::parts(body));
                drop(wire::uploads(body));
                drop(wire::names(body));
                drop(wire::error(body));
                drop(wire::created(body));
                wire::completed(body);
            }
        }
    });
    assert!(peak.is_none_or(|mib| mib <= 16), "{peak:?} MiB");
}

#[test]
fn a_page_of_a_thousand_objects_with_all_that_servers_say_is_read() {
    let object = |n: usize| {
        format!(
            "<Contents><Key>runs/{n}</Key><LastModified>2026-11-21T00:00:00.000Z</LastModified>\
             <ETag>&quot;{n:032x}&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>\
             <ChecksumType>FULL_OBJECT</ChecksumType><Size>1</Size><StorageClass>STANDARD</StorageClass>\
             <Owner><ID>o</ID><DisplayName>d</DisplayName></Owner><RestoreStatus>\
             <IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus></Contents>"
        )
    };
    let objects: String = (0..1000).map(object).collect();
    let body =
        format!("<ListBucketResult><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>");
    assert_eq!(wire::names(body.as_bytes()).expect("read").names.len(), 1000);
}

/// A storage that does not know the encoding writes names as they are.
#[test]
fn names_in_lists_are_read_to_the_letter() {
    for (encoding, written, name) in [
        ("<EncodingType>url</EncodingType>", "a+b%2Bc%01%C3%BC%25/d", "a b+c\u{1}ü%/d"),
        ("", "a+b%2Bc ", "a+b%2Bc "),
    ] {
        let key = format!("<Key>{written}</Key>");
        let objects = format!(
            "<ListBucketResult>{encoding}<IsTruncated>false</IsTruncated><Contents>{key}<Size>7</Size>\
             </Contents></ListBucketResult>"
        );
        assert_eq!(wire::names(objects.as_bytes()).expect("read").names, [name]);
        assert_eq!(wire::size_of(objects.as_bytes(), name), Some(7), "{name}");
        let uploads = format!(
            "<ListMultipartUploadsResult>{encoding}<IsTruncated>true</IsTruncated><NextKeyMarker>{written}\
             </NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker><Upload>{key}<UploadId>u</UploadId>\
             </Upload></ListMultipartUploadsResult>"
        );
        let page = wire::uploads(uploads.as_bytes()).expect("read");
        assert_eq!(page.uploads[0].key, name);
        assert_eq!(page.next, Some((name.to_owned(), "u".to_owned())));
    }
}

/// A key's permissions: the allowed operations, of `create part list abort head tag find`.
fn with_rights(rights: &'static str) -> Bench {
    bench(move |seen| {
        let is_about = |name: &str| seen.path.contains(name);
        let what = match seen.method.as_str() {
            "POST" if seen.header("x-amz-tagging").is_some() => "tag",
            "POST" => "create",
            "PUT" => "part",
            "DELETE" => "abort",
            "HEAD" => "head",
            _ if is_about("list-type=2") => "find",
            _ => "list",
        };
        if !rights.split(' ').any(|right| right == what) {
            return Reply::new(
                403,
                if what == "head" { String::new() } else { error("AccessDenied") },
            );
        }
        match what {
            "create" | "tag" => Reply::new(200, "<R><UploadId>u1</UploadId></R>"),
            "part" => Reply::new(200, "").with("etag", "\"e\""),
            "abort" => Reply::new(204, ""),
            "head" => Reply::new(404, ""),
            "find" => Reply::new(
                200,
                "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
            ),
            _ => Reply::new(200, "<R><IsTruncated>false</IsTruncated></R>"),
        }
    })
}

#[tokio::test]
async fn each_right_is_tried_below_the_prefix_and_nothing_is_left() {
    for (rights, expected) in [
        ("create part list abort head tag", "+put +list +head +abort +tag"),
        ("create part list abort head find", "+put +list +head +abort -tag"),
        ("create part list abort tag find", "+put +list -head +abort +tag"),
        ("create part list abort tag", "+put +list ?head +abort +tag"),
        ("create part list head tag", "+put +list +head -abort +tag"),
        ("create part abort head tag", "+put -list +head +abort +tag"),
        ("create list abort head tag", "-put +list +head +abort +tag"),
        ("part list abort head", "-put"),
    ] {
        let bench = with_rights(rights);
        let found = bench.platform.check_rights().await.expect("answers");
        let found = found.iter().map(|right| {
            let state = match right.state {
                RightState::Granted => '+',
                RightState::Refused(_) => '-',
                RightState::Unknown(_) | RightState::NotTried => '?',
            };
            format!("{state}{}", right.right.split(' ').next().expect("a word"))
        });
        assert_eq!(found.collect::<Vec<_>>().join(" "), expected, "{rights}");
        let lines = lines(&bench);
        let own = |line: &String| {
            line.contains("/bkt/runs/.dropferry-check-")
                || line.contains("prefix=runs%2F.dropferry-check-")
        };
        assert!(lines.iter().all(own), "{lines:?}");
        let begun = lines.iter().filter(|line| line.starts_with("POST")).count();
        let ended = lines.iter().filter(|line| line.starts_with("DELETE")).count();
        assert!(ended == 1 || begun <= 2 && !rights.contains("create"), "{lines:?}");
    }
}

#[tokio::test]
async fn a_closed_destination_is_asked_by_one_look_below_the_prefix() {
    let looks = with_rights("head");
    looks.platform.check_access().await.expect("who says that nothing is there takes our keys");
    assert_eq!(lines(&looks), ["HEAD /bkt/runs/.dropferry-check?"]);
    let writes = with_rights("create");
    writes.platform.check_access().await.expect("a key may only write, and not abort");
    let none = with_rights("list abort");
    let failure = none.platform.check_access().await.expect_err("nothing may be written");
    assert_eq!(failure.kind, FailureKind::Forbidden, "{failure}");
}

#[tokio::test]
async fn an_object_is_made_with_the_class_and_the_rights_that_are_configured() {
    let stub = Stub::start(|seen| match seen.method.as_str() {
        "POST" => Reply::new(200, "<R><UploadId>u1</UploadId></R>"),
        "HEAD" => Reply::new(404, ""),
        _ => Reply::new(200, "").with("etag", format!("\"{DIGEST}\"")),
    });
    let text = "[default]\naws_access_key_id = AKID\naws_secret_access_key = planted-secret\n\
        aws_session_token = temporary\n";
    let object = ObjectSettings {
        storage_class: Some("DEEP_ARCHIVE".into()),
        acl: Some("bucket-owner-full-control".into()),
    };
    let settings = Settings { object, requester_pays: true, ..settings(&stub) };
    let (link, file) = bench::link(text, Some(10_000.0), Clock::real().into());
    let platform = S3::new(&settings, link).expect("a client");
    let bench = Bench { stub, platform, file };
    sent_whole(&bench, true).await.expect("sent");
    bench.platform.begin(&request(25)).await.expect("begun");
    for seen in bench.stub.seen() {
        assert_eq!(seen.header("x-amz-request-payer"), Some("requester"));
        assert_eq!(seen.header("x-amz-security-token"), Some("temporary"));
        let signed = seen.header("authorization").expect("signed");
        assert!(signed.contains("x-amz-request-payer;x-amz-security-token"), "{signed}");
        if seen.method != "HEAD" {
            assert_eq!(seen.header("x-amz-storage-class"), Some("DEEP_ARCHIVE"), "{}", seen.line());
            assert_eq!(seen.header("x-amz-acl"), Some("bucket-owner-full-control"));
        }
    }
}

/// Repeats an attempt until one succeeds, and returns their number.
async fn attempts<T>(mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> usize {
    for count in 1..=6 {
        match attempt().await {
            Ok(_) => return count,
            Err(failure) => assert_eq!(failure.kind, FailureKind::ServerFault, "{failure}"),
        }
    }
    panic!("no attempt passes");
}

/// A storage that refuses a header line, with or without its name.
fn refusing(line: &'static str, status: u16, is_named: bool) -> Bench {
    bench(move |seen| {
        if seen.header(line).is_some() {
            let named = format!("Unsupported header '{line}' received for this API call.");
            let said = if is_named { named } else { "no".to_owned() };
            let code = if status == 501 { "NotImplemented" } else { "InvalidArgument" };
            let body = format!("<Error><Code>{code}</Code><Message>{said}</Message></Error>");
            return Reply::new(status, body);
        }
        match seen.method.as_str() {
            "HEAD" => Reply::new(404, ""),
            "POST" => Reply::new(200, "<R><ETag>e</ETag><UploadId>u1</UploadId></R>"),
            _ => Reply::new(200, "").with("etag", format!("\"{DIGEST}\"")),
        }
    })
}

#[tokio::test]
async fn a_line_that_a_storage_does_not_know_is_left_out_and_no_other() {
    let all = [
        ("x-amz-mp-object-size", Learned::NoObjectSize),
        ("if-none-match", Learned::NoConditions),
        ("x-amz-tagging", Learned::NoTags),
        ("content-md5", Learned::NoContentMd5),
    ];
    for ((line, what), status, is_named) in all
        .into_iter()
        .flat_map(|one| [(one, 501, true), (one, 501, false), (one, 400, true), (one, 400, false)])
    {
        let bench = refusing(line, status, is_named);
        let platform = &bench.platform;
        let put = async || {
            let mut request = whole(false);
            request.begun.description.tags = vec!["lab".to_owned()];
            let md5 = Some(crate::model::Md5([0xab; 16]));
            let body = crate::platform::contract::PartBody { md5, ..body(b"12345") };
            platform.put_whole(&request, body).await
        };
        for _ in 0..2 {
            attempts(async || put().await).await;
            attempts(async || platform.complete(&completing()).await).await;
        }
        assert_eq!(platform.options.left_out(), [what], "{line} {status} {is_named}");
        let news = platform.news();
        assert_eq!((news.len(), news[0].0), (1, what));
        let before = bench.stub.seen().len();
        assert_eq!(attempts(async || put().await).await, 1, "{line}: it is remembered");
        let seen = bench.stub.seen();
        let sent = seen[before..].iter().find(|seen| seen.method == "PUT").expect("sent");
        for (other, _) in &all[1..] {
            assert_eq!(sent.header(other).is_some(), *other != line, "{other} {line}");
        }
        let next = refusing(line, status, is_named);
        next.platform.know(what);
        attempts(async || next.platform.complete(&completing()).await).await;
        assert!(next.platform.news().is_empty(), "it is no news to another client");
    }
}

#[tokio::test]
async fn a_refusal_of_the_file_itself_costs_no_line_and_ends() {
    for (status, code) in [(400, "InvalidArgument"), (400, "BadDigest"), (400, "KeyTooLongError")] {
        let bench = bench(move |seen| match seen.method.as_str() {
            "HEAD" => Reply::new(404, ""),
            _ => Reply::new(status, error(code)),
        });
        let mut kinds = Vec::new();
        for _ in 0..4 {
            kinds.push(sent_whole(&bench, false).await.expect_err("refused").kind);
        }
        let passing = FailureKind::ServerFault;
        match code {
            "InvalidArgument" => {
                assert_eq!(kinds[..3], [passing, passing, FailureKind::BadRequest])
            }
            "BadDigest" => assert_eq!(kinds, [FailureKind::PartRejected; 4]),
            _ => assert_eq!(kinds, [FailureKind::BadRequest; 4]),
        }
        assert!(bench.platform.options.left_out().is_empty() && bench.platform.news().is_empty());
    }
}

#[tokio::test]
async fn a_size_that_the_headers_do_not_say_is_read_or_listed() {
    let key = crate::model::RemoteFileId::new(KEY);
    let listed = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>\
        <Key>runs/a b/x+y#1.gz</Key><Size>25</Size></Contents></ListBucketResult>";
    for (reads, lists, expected) in
        [(true, false, Some(25)), (false, true, Some(25)), (false, false, None)]
    {
        let bench = bench(move |seen| match seen.method.as_str() {
            _ if seen.path.contains("list-type=2") && lists => Reply::new(200, listed),
            "GET" if seen.header("range").is_some() && reads => {
                Reply::new(206, "x").with("content-range", "bytes 0-0/25")
            }
            _ => Reply::new(403, error("AccessDenied")),
        });
        let head = Response {
            status: 200,
            headers: header_map([("etag", "\"e\"")].into_iter()).expect("one"),
            body: Bytes::new(),
        };
        let file = bench.platform.known(key.as_str(), &head).await.expect("known");
        assert_eq!(file.size.map(|size| size.0), expected, "{reads} {lists}");
    }
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_by_the_refusal_and_by_nothing_else() {
    // 2026-11-21T00:00:00Z, and two hours later at the storage.
    let ours = WallTime(1_795_219_200_000_000_000);
    let theirs = "Sat, 21 Nov 2026 02:00:00 GMT";
    for (status, body) in [
        (403, error("RequestTimeTooSkewed")),
        (403, error("AccessDenied")),
        (400, error("AccessDenied")),
        (400, String::new()),
        (403, String::new()),
    ] {
        let stub = Stub::start(move |seen| match seen.header("x-amz-date") {
            Some("20261121T020000Z") => Reply::new(404, "").with("date", theirs),
            _ => Reply::new(status, body.clone()).with("date", theirs),
        });
        let text = "[default]\naws_access_key_id = AKID\naws_secret_access_key = planted-secret\n";
        let (link, _file) = bench::link(text, Some(10_000.0), bench::frozen(ours));
        let platform = S3::new(&settings(&stub), link).expect("a client");
        let target = bench::target(&["runs"], "a");
        let failure = platform.locate(&target).await.expect_err("signed by a wrong clock");
        assert_eq!(failure.kind, FailureKind::ServerFault, "{failure}");
        assert!(failure.message.contains("clock is 120 min behind"), "{failure}");
        assert_eq!(platform.locate(&target).await, Ok(None));
    }
    let stub = Stub::start(move |_| Reply::new(404, "").with("date", theirs));
    let text = "[default]\naws_access_key_id = AKID\naws_secret_access_key = planted-secret\n";
    let (link, _file) = bench::link(text, Some(10_000.0), bench::frozen(ours));
    let platform = S3::new(&settings(&stub), link).expect("a client");
    for _ in 0..3 {
        assert_eq!(platform.locate(&bench::target(&["runs"], "a")).await, Ok(None));
    }
    let dates = stub.seen().into_iter().map(|seen| seen.header("x-amz-date").map(str::to_owned));
    assert!(dates.into_iter().all(|date| date.as_deref() == Some("20261121T000000Z")));
}
