//! A minimal parser of DER, for certificates.

/// The tag of a sequence.
pub(super) const SEQUENCE: u8 = 0x30;

/// Splits off the first element: its tag, its content, and the rest.
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

/// Splits off an element of a kind, and returns its content and the rest.
pub(super) fn expect(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(tag, _, _)| *tag == kind).map(|(_, content, rest)| (content, rest))
}

/// Returns the part of a certificate from its issuer on: validity, subject and key follow.
pub(super) fn from_issuer(certificate: &[u8]) -> Option<&[u8]> {
    let (whole, _) = expect(certificate, SEQUENCE)?;
    let (signed, _) = expect(whole, SEQUENCE)?;
    // The optional version, the serial number, the algorithm.
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
    // The first byte is the number of unused bits: none in a key.
    bits.split_first().filter(|(unused, _)| **unused == 0).map(|(_, key)| (algorithm, key))
}
