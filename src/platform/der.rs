//! DER, as far as certificates are read by hand.

/// The tag of a sequence.
pub(super) const SEQUENCE: u8 = 0x30;

/// Takes one element off the front: its tag, its content, and what follows.
pub(super) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// Takes one element of a kind, and returns its content and what follows.
pub(super) fn expect(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(tag, _, _)| *tag == kind).map(|(_, content, rest)| (content, rest))
}

/// Returns what of a certificate begins with its issuer: validity, subject and key follow.
pub(super) fn from_issuer(certificate: &[u8]) -> Option<&[u8]> {
    let (whole, _) = expect(certificate, SEQUENCE)?;
    let (signed, _) = expect(whole, SEQUENCE)?;
    // The version, which may be left out, the serial number, the algorithm.
    let (tag, _, after) = element(signed)?;
    let rest = if tag == 0xA0 { element(after)?.2 } else { after };
    Some(expect(rest, SEQUENCE)?.1)
}

/// Returns the algorithm and the bits of a certificate's public key.
pub(super) fn public_key(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = expect(from_issuer(certificate)?, SEQUENCE)?;
    let (_, rest) = expect(rest, SEQUENCE)?;
    let (_, rest) = expect(rest, SEQUENCE)?;
    let (key, _) = expect(rest, SEQUENCE)?;
    let (algorithm, rest) = expect(key, SEQUENCE)?;
    let (bits, _) = expect(rest, 3)?;
    // The first byte counts bits that are left over: none in a key.
    bits.split_first().filter(|(unused, _)| **unused == 0).map(|(_, key)| (algorithm, key))
}
