use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;

use rustix::fd::AsFd;
use rustix::fs::FileType;

use super::super::DirectoryRoot;
use super::super::beneath::{LinkEnd, Root};
use super::super::tests::path;
use super::body::Ending;
use super::*;
use crate::model::Provenance;
use crate::skipped::skipped_by_machine;

const CHUNK: u64 = CHUNK_BYTES as u64;
static GO: AtomicBool = AtomicBool::new(false);

fn content(length: u64) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap()).collect()
}

fn digest(bytes: &[u8]) -> Md5 {
    Md5(md5::Md5::digest(bytes).into())
}

pub(super) fn source(root: &Path, name: &str) -> SourceFile {
    let directory = Root::open(root).unwrap();
    let mut stat = directory.stat(&path(name)).unwrap();
    if let (FileType::Symlink, LinkEnd::Inside(target)) =
        (stat.file_type, directory.resolve(&path(name)))
    {
        stat = directory.stat(&target).unwrap();
    }
    SourceFile {
        root: Arc::new(DirectoryRoot::at(root)),
        path: path(name),
        fingerprint: stat.fingerprint,
        provenance: None,
    }
}

/// Creates a drop directory with one file of `length` bytes.
fn drop_with(length: u64) -> (tempfile::TempDir, PathBuf, SourceFile) {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, content(length)).unwrap();
    // An empty drop directory may have an unmounted share.
    fs::create_dir(root.path().join("run")).unwrap();
    let source = source(root.path(), "file");
    (root, file, source)
}

fn reader() -> PartReader {
    PartReader::new(MEMORY_PER_PART)
}

async fn read_again(source: &SourceFile, range: ByteRange) -> PartBytes {
    PartBytes::read_again(source.clone(), range, false, reader().room_to_read_again().await)
}

/// How reading ended, without the pages it brought into memory.
fn end(ending: &Ending) -> Option<Result<(), Failure>> {
    ending.get().map(|ended| ended.as_ref().map(|_| ()).map_err(Clone::clone))
}

fn whole(source: &SourceFile) -> ByteRange {
    ByteRange { offset: 0, length: source.fingerprint.size.0 }
}

/// Reads all chunks; the failure is the one inside the last item.
async fn drain(stream: &mut PartBytes) -> (Vec<u8>, Option<Failure>) {
    let mut bytes = Vec::new();
    while let Some(item) = stream.next().await {
        match item {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => {
                let inner = error.into_inner().unwrap().downcast::<Failure>().unwrap();
                assert!(stream.next().await.is_none(), "an error is the last item");
                return (bytes, Some(*inner));
            }
        }
    }
    (bytes, None)
}

#[tokio::test]
async fn bytes_and_digest_of_a_range_are_those_of_the_file() {
    let (_root, _, source) = drop_with(3 * CHUNK + 17);
    let all = content(3 * CHUNK + 17);
    let ranges = [(0, 1), (0, CHUNK), (1, CHUNK), (CHUNK, CHUNK + 1), (0, 3 * CHUNK + 17)];
    for (offset, length) in ranges {
        let range = ByteRange { offset, length };
        let mut stream = read_again(&source, range).await;
        let (bytes, failure) = drain(&mut stream).await;
        assert_eq!(failure, None);
        let start = usize::try_from(offset).unwrap();
        let wanted = &all[start..start + usize::try_from(length).unwrap()];
        assert!(bytes == wanted);
        assert_eq!(end(&stream.ending()), Some(Ok(())));
        assert_eq!(reader().hash_range(&source, range, &GO), Ok(digest(wanted)));
    }
}

#[tokio::test]
async fn empty_part_has_no_chunk_and_is_proved_all_the_same() {
    let (_root, file, source) = drop_with(0);
    let mut stream = read_again(&source, whole(&source)).await;
    assert_eq!(drain(&mut stream).await, (Vec::new(), None));
    assert_eq!(end(&stream.ending()), Some(Ok(())));
    assert_eq!(reader().hash_range(&source, whole(&source), &GO), Ok(digest(b"")));

    fs::write(&file, "more").unwrap();
    let mut stream = read_again(&source, whole(&source)).await;
    let (_, failure) = drain(&mut stream).await;
    assert_eq!(failure.unwrap().kind, FailureKind::SourceChanged);
    assert_eq!(end(&stream.ending()).unwrap().unwrap_err().kind, FailureKind::SourceChanged);
}

/// Changes the file while it is being read: the body must end early.
async fn change_during_read(change: impl FnOnce(&Path)) -> Failure {
    let length = 8 * CHUNK;
    let (_root, file, source) = drop_with(length);
    let mut stream = read_again(&source, whole(&source)).await;
    let first = stream.next().await.unwrap().unwrap();
    change(&file);
    let (rest, failure) = drain(&mut stream).await;
    assert!(((first.len() + rest.len()) as u64) < length, "the last chunk was given");
    let failure = failure.unwrap();
    assert_eq!(end(&stream.ending()), Some(Err(failure.clone())));
    failure
}

#[tokio::test]
async fn growing_file_breaks_off_the_body() {
    let failure = change_during_read(|file| {
        fs::OpenOptions::new().append(true).open(file).unwrap().write_all(b"x").unwrap();
    });
    let failure = failure.await;
    assert_eq!(failure.kind, FailureKind::SourceChanged);
    assert!(failure.message.contains("bytes and has"), "{failure}");
}

#[tokio::test]
async fn truncated_file_breaks_off_the_body() {
    let failure = change_during_read(|file| {
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(10).unwrap();
    });
    let failure = failure.await;
    assert_eq!(failure.kind, FailureKind::SourceChanged);
    assert!(failure.message.contains("it ends after"), "{failure}");
}

#[test]
fn file_that_was_touched_is_read_once_it_is_quiet_and_the_parts_that_differ_are_found() {
    let (_root, file, source) = drop_with(3 * CHUNK);
    let range = |index| ByteRange { offset: index * CHUNK, length: CHUNK };
    let whole = content(3 * CHUNK);
    let sent: Vec<_> =
        (0..3).zip(whole.chunks(CHUNK_BYTES)).map(|(i, part)| (range(i), digest(part))).collect();
    let reader = reader();
    let prove = |settled: Option<&Fingerprint>| reader.prove_parts(&source, &sent, settled, &GO);
    let moved = || match prove(None) {
        Ok(PartsProof::Moved(version)) => version,
        other => panic!("{other:?}"),
    };
    let differing = |settled: Option<&Fingerprint>| match prove(settled) {
        Ok(PartsProof::Read { version, differing }) => {
            assert_eq!(version.size, source.fingerprint.size);
            differing
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(differing(None), []);
    // Only the mode: it is read at once.
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(differing(None), []);
    let opened = fs::OpenOptions::new().write(true).open(&file).unwrap();
    opened.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    let touched = moved();
    assert_eq!(differing(Some(&touched)), []);
    // Other bytes, and the earlier time.
    std::os::unix::fs::FileExt::write_all_at(&opened, b"other", CHUNK + 7).unwrap();
    opened.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    assert_eq!(differing(Some(&touched)), [PartNumber::from_index(1)]);
    opened.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(2)).unwrap();
    assert!(matches!(prove(Some(&touched)), Ok(PartsProof::Moved(_))), "it moved again");
    opened.set_len(CHUNK).unwrap();
    assert_eq!(prove(None).unwrap_err().kind, FailureKind::SourceChanged);
}

#[tokio::test]
async fn removed_file_breaks_off_the_body() {
    let failure = change_during_read(|file| fs::remove_file(file).unwrap()).await;
    assert_eq!(failure.kind, FailureKind::SourceGone);
}

#[tokio::test]
async fn other_version_is_refused_before_a_byte_is_read() {
    let (_root, file, source) = drop_with(100);
    fs::write(&file, content(101)).unwrap();
    let mut stream = read_again(&source, whole(&source)).await;
    let (bytes, failure) = drain(&mut stream).await;
    assert!(bytes.is_empty());
    assert_eq!(failure.unwrap().kind, FailureKind::SourceChanged);
    assert!(end(&stream.ending()).unwrap().is_err());
    let hashed = reader().hash_range(&source, whole(&source), &GO);
    assert_eq!(hashed.unwrap_err().kind, FailureKind::SourceChanged);
}

#[test]
fn missing_file_is_gone_unless_nothing_is_there_or_the_drop_directory_is_away() {
    let (root, file, source) = drop_with(1);
    fs::remove_file(&file).unwrap();
    let hash = || reader().hash_range(&source, whole(&source), &GO).unwrap_err();
    assert_eq!(hash().kind, FailureKind::SourceGone);
    assert!(hash().message.starts_with("cannot open file"), "{}", hash());
    fs::remove_dir(root.path().join("run")).unwrap();
    assert_eq!(hash().kind, FailureKind::SourceAway);
    assert!(hash().message.contains("it is empty"), "{}", hash());
    drop(root);
    assert_eq!(hash().kind, FailureKind::SourceAway);
    assert!(hash().message.starts_with("cannot open drop directory"), "{}", hash());
}

#[test]
fn directory_in_the_file_s_place_is_another_version() {
    let (_root, file, source) = drop_with(1);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let failure = reader().hash_range(&source, whole(&source), &GO).unwrap_err();
    assert_eq!(failure.kind, FailureKind::SourceChanged);
}

#[test]
fn range_beyond_the_end_is_our_own_fault() {
    let (_root, _, source) = drop_with(10);
    for (offset, length) in [(0, 11), (10, 1), (11, 0), (u64::MAX, 2)] {
        let failure = reader().hash_range(&source, ByteRange { offset, length }, &GO).unwrap_err();
        assert_eq!(failure.kind, FailureKind::LocalFault, "{offset} {length}");
    }
}

#[test]
fn links_inside_are_read_and_links_outside_are_not() {
    let (root, _, _) = drop_with(10);
    symlink("file", root.path().join("link")).unwrap();
    let linked = source(root.path(), "link");
    let read = reader().hash_range(&linked, whole(&linked), &GO).unwrap();
    assert_eq!(read, digest(&content(10)));

    fs::remove_file(root.path().join("link")).unwrap();
    symlink("/etc/passwd", root.path().join("link")).unwrap();
    let failure = reader().hash_range(&linked, whole(&linked), &GO).unwrap_err();
    assert_eq!(failure.kind, FailureKind::SourceChanged);
    fs::remove_file(root.path().join("link")).unwrap();
    symlink("nothing", root.path().join("link")).unwrap();
    let failure = reader().hash_range(&linked, whole(&linked), &GO).unwrap_err();
    assert_eq!(failure.kind, FailureKind::SourceGone);
}

#[tokio::test]
async fn dropped_bytes_end_the_reading() {
    let (_root, _, source) = drop_with(20 * CHUNK);
    let mut stream = read_again(&source, whole(&source)).await;
    let ending = stream.ending();
    stream.next().await.unwrap().unwrap();
    assert!(!ending.is_left());
    drop(stream);
    assert!(end(&ending).is_none() && ending.is_left());
}

#[test]
fn hashing_ends_when_told() {
    let (_root, _, source) = drop_with(10);
    let stop = AtomicBool::new(true);
    let failure = reader().hash_range(&source, whole(&source), &stop).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    let failure = reader().hash_file(&source, PartSize::new(3).unwrap(), &stop).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
}

#[test]
fn mark_is_the_digest_over_the_parts_digests() {
    let all = content(2 * CHUNK + 5);
    for (length, part_size) in [(0, 8), (8, 8), (9, 8), (2 * CHUNK + 5, CHUNK + 1)] {
        let (_root, _, source) = drop_with(length);
        let bytes = &all[..usize::try_from(length).unwrap()];
        let mut chunks: Vec<_> = bytes.chunks(usize::try_from(part_size).unwrap()).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let digests: Vec<u8> = chunks.iter().flat_map(|chunk| digest(chunk).0).collect();
        let part_size = PartSize::new(part_size).unwrap();
        let mark = reader().hash_file(&source, part_size, &GO).unwrap();
        assert_eq!(mark, ContentMark { part_size, md5_of_parts: digest(&digests) });
    }
}

/// Digests parts that are all given at the start, in order.
fn together(reader: &PartReader, wanted: Vec<WantedRange>) -> Vec<Result<Digested, Failure>> {
    let mut left: Vec<_> = wanted.into_iter().enumerate().map(|(tag, one)| (one, tag)).collect();
    let mut ends: Vec<_> = Vec::new();
    let more = |most: usize, _| left.drain(..left.len().min(most)).collect();
    reader.digest_together(&Together::default(), more, |tag, end| ends.push((tag, end)), &GO);
    ends.sort_by_key(|(tag, _)| *tag);
    ends.into_iter().map(|(_, end)| end).collect()
}

fn wanted(source: &SourceFile, range: ByteRange, room: Option<Room>) -> WantedRange {
    WantedRange { file: source.clone(), range, room }
}

fn kept(
    reader: &PartReader,
    source: &SourceFile,
    range: ByteRange,
    room: Room,
) -> Result<(Md5, PartBytes), Failure> {
    let wanted = wanted(source, range, Some(room));
    let digested = together(reader, vec![wanted]).pop().unwrap()?;
    Ok((digested.md5, PartBytes::kept(digested.kept.expect("its bytes are kept"))))
}

#[test]
fn parts_of_all_lengths_are_digested_together_and_fail_alone() {
    let lengths = [0, 1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7];
    let drops: Vec<_> = lengths.iter().cycle().take(70).map(|length| drop_with(*length)).collect();
    fs::remove_file(&drops[3].1).unwrap();
    fs::write(&drops[40].1, "another version").unwrap();
    let wanted = drops.iter().map(|(_, _, source)| wanted(source, whole(source), None));
    let ends = together(&reader(), wanted.collect());
    for (index, (end, (_, _, source))) in ends.into_iter().zip(&drops).enumerate() {
        match (index, end) {
            (3, end) => assert_eq!(end.unwrap_err().kind, FailureKind::SourceGone),
            (40, end) => assert_eq!(end.unwrap_err().kind, FailureKind::SourceChanged),
            (_, Ok(digested)) => {
                assert_eq!(digested.md5, digest(&content(source.fingerprint.size.0)), "{index}");
            }
            (_, Err(failure)) => panic!("{index}: {failure}"),
        }
    }
}

#[test]
fn digesting_together_ends_when_told() {
    let (_root, _, source) = drop_with(10);
    let mut left = vec![(wanted(&source, whole(&source), None), ())];
    let mut kinds = Vec::new();
    reader().digest_together(
        &Together::default(),
        |_, _| std::mem::take(&mut left),
        |(), end| kinds.extend(end.err().map(|failure| failure.kind)),
        &AtomicBool::new(true),
    );
    assert_eq!(kinds, [FailureKind::Cancelled]);
}

#[tokio::test]
async fn kept_part_is_read_once_and_is_what_was_hashed() {
    let (_root, file, source) = drop_with(2 * CHUNK + 17);
    let reader = PartReader::new(ByteCount(16 * BUFFER_BYTES));
    let range = ByteRange { offset: 1, length: 2 * CHUNK };
    let room = reader.try_room_for_whole(range.length).unwrap();
    let (md5, mut chunks) = kept(&reader, &source, range, room.clone()).unwrap();
    let wanted = &content(2 * CHUNK + 17)[1..1 + 2 * CHUNK_BYTES];
    assert_eq!(md5, digest(wanted));
    // Kept bytes are unchanged, whatever happens to the file.
    fs::write(&file, "other").unwrap();
    let (bytes, failure) = drain(&mut chunks).await;
    assert!(bytes == wanted && failure.is_none());
    assert_eq!(end(&chunks.ending()), Some(Ok(())));
    let again = kept(&reader, &source, range, room).unwrap_err();
    assert_eq!(again.kind, FailureKind::SourceChanged);
}

#[tokio::test]
async fn part_is_read_again_from_memory_and_from_the_disk() {
    let (_root, file, source) = drop_with(5 * CHUNK);
    let content = content(5 * CHUNK);
    for (offset, length) in [(0, 5 * CHUNK), (1, 2 * CHUNK + 7), (CHUNK, CHUNK), (7, 0)] {
        let range = ByteRange { offset, length };
        // A file that is in memory, and one that is not.
        if offset == 1 {
            let opened = fs::File::open(&file).unwrap();
            rustix::fs::fadvise(&opened, 0, None, Advice::DontNeed).unwrap();
        }
        let mut part = read_again(&source, range).await;
        let (bytes, failure) = drain(&mut part).await;
        let begin = usize::try_from(offset).unwrap();
        let wanted = &content[begin..begin + usize::try_from(length).unwrap()];
        assert!(bytes == wanted && failure.is_none());
        assert_eq!(end(&part.ending()), Some(Ok(())));
    }
}

#[tokio::test]
async fn part_that_changes_after_its_digest_breaks_off() {
    let (_root, file, source) = drop_with(5 * CHUNK);
    reader().hash_range(&source, whole(&source), &GO).unwrap();
    let mut part = read_again(&source, whole(&source)).await;
    part.next().await.unwrap().unwrap();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(4 * CHUNK).unwrap();
    let (rest, failure) = drain(&mut part).await;
    assert!((rest.len() as u64) < 4 * CHUNK, "the last chunk was given");
    assert_eq!(failure.unwrap().kind, FailureKind::SourceChanged);
    assert_eq!(end(&part.ending()).unwrap().unwrap_err().kind, FailureKind::SourceChanged);
}

#[tokio::test]
async fn parts_that_are_read_again_keep_to_the_budget() {
    let (_root, _, source) = drop_with(20 * CHUNK);
    let reader = reader();
    let room = reader.room_to_read_again().await;
    let mut part = PartBytes::read_again(source.clone(), whole(&source), false, room);
    let first = part.next().await.unwrap().unwrap();
    assert!(reader.try_room_for_whole(1).is_none(), "one part takes all there is");
    drop(part);
    drop(first);
    drop(reader.room_to_read_again().await);
}

#[test]
fn cold_pages_are_forgotten_and_warm_ones_stay() {
    // The system may keep pages that another process reads just then, so this is tried several times.
    let Some(is_forgotten) = (0..8).find_map(|_| cold_pages_are_forgotten()) else {
        skipped_by_machine("the file system of the temporary directory keeps its pages");
        return;
    };
    assert!(is_forgotten, "its pages are gone again");
}

/// Reads a file that is as cold as the system allows; returns whether its pages were dropped again,
/// if it was cold.
fn cold_pages_are_forgotten() -> Option<bool> {
    let (_root, file, source) = drop_with(64 * CHUNK);
    let opened = fs::File::open(&file).unwrap();
    opened.sync_all().unwrap();
    let range = whole(&source);
    assert!(!is_cold(&opened, range), "what was just written is in memory");
    rustix::fs::fadvise(&opened, 0, None, Advice::DontNeed).unwrap();
    let reader = PartReader::new(ByteCount(128 * BUFFER_BYTES));
    let room = reader.try_room_for_whole(range.length).unwrap();
    let (_, bytes) = kept(&reader, &source, range, room).unwrap();
    assert!(!is_cold(&opened, range), "it was read");
    let ending = bytes.ending();
    let Some(Ok(Some(cold))) = ending.get() else { return None };
    cold.forget();
    Some(is_cold(&opened, range))
}

#[test]
fn what_was_handed_in_is_read_of_its_owner_and_its_file_system_alone() {
    let (_root, file, mut source) = drop_with(4);
    let read =
        |source: &SourceFile| reader().hash_range(source, ByteRange { offset: 0, length: 4 }, &GO);
    let opened = File::open(&file).unwrap();
    let found = super::super::prove(&file.canonicalize().unwrap(), opened.as_fd()).unwrap();
    source.provenance = Some(found.provenance);
    assert!(read(&source).is_ok());
    let Provenance { owner, file_system } = found.provenance;
    for other in [
        Provenance { owner: owner.wrapping_add(1), file_system },
        Provenance { owner, file_system: file_system.wrapping_add(1) },
    ] {
        source.provenance = Some(other);
        assert_eq!(read(&source).unwrap_err().kind, FailureKind::SourceChanged);
    }
}

#[test]
fn no_link_is_followed_to_what_was_handed_in() {
    let (root, file, mut source) = drop_with(4);
    let opened = File::open(&file).unwrap();
    let found = super::super::prove(&file.canonicalize().unwrap(), opened.as_fd()).unwrap();
    symlink("file", root.path().join("link")).unwrap();
    source.path = path("link");
    let read =
        |source: &SourceFile| reader().hash_range(source, ByteRange { offset: 0, length: 4 }, &GO);
    assert!(read(&source).is_ok(), "in a drop directory it is");
    source.provenance = Some(found.provenance);
    assert!(read(&source).is_err());
}
