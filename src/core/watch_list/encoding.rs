//! Encodings of a watch list.

use std::borrow::Cow;

/// A byte that UTF-8 does not use. It replaces invalid UTF-16, so that only its line is rejected.
const NO_CHARACTER: u8 = 0xFF;

/// Decodes to UTF-8 without a byte-order mark. UTF-16 needs a byte-order mark.
pub(super) fn to_utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    match bytes {
        [0xEF, 0xBB, 0xBF, text @ ..] => Cow::Borrowed(text),
        [0xFF, 0xFE, text @ ..] => Cow::Owned(from_utf16(text, u16::from_le_bytes)),
        [0xFE, 0xFF, text @ ..] => Cow::Owned(from_utf16(text, u16::from_be_bytes)),
        text => Cow::Borrowed(text),
    }
}

fn from_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let (pairs, half) = bytes.as_chunks::<2>();
    let mut text = Vec::with_capacity(pairs.len() + half.len());
    for character in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match character {
            Ok(character) => text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(_) => text.push(NO_CHARACTER),
        }
    }
    // Half of a UTF-16 unit at the end of the file.
    text.extend(half.iter().map(|_| NO_CHARACTER));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn a_byte_order_mark_names_the_encoding() {
        let text = "op-1 customer=Gäle\r\n𐐷\n";
        let marked = format!("\u{feff}{text}");
        assert_eq!(*to_utf8(marked.as_bytes()), *text.as_bytes());
        assert_eq!(*to_utf8(&utf16(&marked, u16::to_le_bytes)), *text.as_bytes());
        assert_eq!(*to_utf8(&utf16(&marked, u16::to_be_bytes)), *text.as_bytes());
        let unmarked = utf16(text, u16::to_le_bytes);
        assert_eq!(*to_utf8(&unmarked), *unmarked);
        for empty in [&b""[..], b"\xEF\xBB\xBF", b"\xFF\xFE", b"\xFE\xFF"] {
            assert_eq!(*to_utf8(empty), *b"");
        }
    }

    #[test]
    fn what_is_no_character_stays_in_its_line() {
        assert_eq!(*to_utf8(b"\xFF\xFEa\0\n\0\0\xD8\n\0b\0c"), *b"a\n\xFF\nb\xFF");
    }
}
