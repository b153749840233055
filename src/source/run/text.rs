//! Decodes the bytes of a file as text, in any encoding in use.

/// Returns the text, without a byte order mark.
///
/// Windows writes UTF-16 for some XML; any other byte that is not UTF-8 becomes U+FFFD, which no
/// word may contain.
pub(super) fn decoded(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn utf16(bytes: &[u8], run: fn([u8; 2]) -> u16) -> String {
    let runs = bytes.chunks_exact(2).map(|pair| run([pair[0], pair[1]]));
    let text = char::decode_utf16(runs).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    text.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_left_out_and_odd_bytes_are_replaced() {
        assert_eq!(decoded(b"\xef\xbb\xbfa,b\r\n"), "a,b\r\n");
        assert_eq!(decoded(b"\xff\xfe<\0a\0"), "<a");
        assert_eq!(decoded(b"\xfe\xff\0<\0a"), "<a");
        assert_eq!(decoded(b"\xff\xfe<\0a\0\0\xd8"), "<a\u{fffd}");
        assert_eq!(decoded(b"caf\xe9"), "caf\u{fffd}");
        assert_eq!(decoded(b""), "");
    }
}
