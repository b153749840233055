//! Bytes as hexadecimal digits. Fast, because every file has digests to show.

use std::fmt;

/// Bytes that are converted at a time.
const CHUNK: usize = 16;

/// Displays bytes as lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.chunks(CHUNK) {
            let mut digits = [0; 2 * CHUNK];
            for (pair, byte) in digits.chunks_exact_mut(2).zip(chunk) {
                pair[0] = digit(byte >> 4);
                pair[1] = digit(byte & 15);
            }
            // Hexadecimal digits are always valid UTF-8.
            f.write_str(str::from_utf8(&digits[..2 * chunk.len()]).unwrap_or_default())?;
        }
        Ok(())
    }
}

fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_two_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        let plain: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Hex(&bytes).to_string(), plain);
        assert_eq!(Hex(&[]).to_string(), "");
    }
}
