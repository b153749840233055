//! Checks the form of a secret: people often save or paste a little more than the secret.
//!
//! *Promises*: messages name the mistake, and quote nothing of the text.

const UTF16: &str = "it is UTF-16: save it as UTF-8";
const QUOTES: [char; 8] =
    ['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}'];

/// Returns the text of a file or of a paste.
///
/// # Errors
/// Its encoding, or that it is no text.
pub(crate) fn text_of(bytes: &[u8]) -> Result<&str, &'static str> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(UTF16),
        [0xef, 0xbb, 0xbf, ..] => {
            Err("it begins with a byte order mark: save it as UTF-8 without one")
        }
        _ if bytes.contains(&0) => Err(UTF16),
        _ => std::str::from_utf8(bytes).map_err(|_| "it is not text"),
    }
}

/// Returns the token in a text.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn token_of(text: &str) -> Result<&str, &'static str> {
    let token = text.trim();
    let begins =
        |word: &str| token.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if token.is_empty() {
        Err("it is empty")
    } else if token.contains(['\n', '\r']) {
        Err("it has several lines: the token alone is wanted, on one line")
    } else if token.starts_with(QUOTES) || token.ends_with(QUOTES) {
        Err("it is in quotes: remove them")
    } else if begins("bearer ") {
        Err("it begins with \"Bearer\": the token alone is wanted")
    } else if begins("authorization:") || begins("x-sbg-auth-token:") || begins("x-access-token:") {
        Err("it begins with the name of a header: the token alone is wanted")
    } else if token.contains(char::is_whitespace) {
        Err("there is a blank in it: the token alone is wanted")
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("there is a character in it that no token has: copy it again")
    } else {
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(bytes: &[u8]) -> &'static str {
        text_of(bytes).and_then(token_of).err().unwrap_or("nothing")
    }

    #[test]
    fn each_mistake_with_a_token_has_its_name() {
        let utf16: Vec<u8> = "token".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, said) in [
            (&b"token\r\n"[..], "nothing"),
            (b" token ", "nothing"),
            (b"", "empty"),
            (b" \n", "empty"),
            (b"\xef\xbb\xbftoken", "byte order mark"),
            (b"\xff\xfet\0o\0", "UTF-16"),
            (&utf16, "UTF-16"),
            (b"\xff token", "not text"),
            (b"\"token\"", "quotes"),
            ("“token”".as_bytes(), "quotes"),
            (b"Bearer token", "Bearer"),
            (b"X-SBG-Auth-Token: token", "header"),
            (b"token\nother", "several lines"),
            (b"to ken", "a blank"),
            ("t\u{f6}ken".as_bytes(), "no token has"),
        ] {
            assert!(wrong(bytes).contains(said), "{bytes:?}: {}", wrong(bytes));
        }
    }
}
