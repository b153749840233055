//! The digest in an ETag of a file, for every S3-like storage: pure functions.

use crate::model::{ByteCount, ContentMark, ETag, Md5, PartSize};

/// Returns the digest in a file's ETag: over parts of that size where it was put together from
/// many, over the whole where it is its MD5.
pub(super) fn of_etag(etag: &ETag, size: ByteCount, part_size: Option<u64>) -> Option<ContentMark> {
    let Some((digest, count)) = etag.as_str().split_once('-') else {
        use md5::{Digest, Md5 as Hasher};
        let whole = Md5::parse(etag.as_str())?;
        let md5_of_parts = Md5(Hasher::digest(whole.0).into());
        let is_one_part = |part_size: &PartSize| part_size.count_for(size) == Some(1);
        let part_size = part_size.and_then(PartSize::new).filter(is_one_part);
        let part_size = part_size.or_else(|| PartSize::new(size.0.max(1)))?;
        return Some(ContentMark { part_size, md5_of_parts });
    };
    let part_size = PartSize::new(part_size?)?;
    let agrees = part_size.count_for(size) == count.parse().ok();
    agrees.then_some(ContentMark { part_size, md5_of_parts: Md5::parse(digest)? })
}
