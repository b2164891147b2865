//! Decodes escapes round by round, and tracks the position of each byte in the original text.

use std::ops::Range;

/// The longest name of an entity in [`ENTITIES`], in bytes.
const MAX_ENTITY: usize = 8;
/// HTML names of ASCII characters.
const ENTITIES: [(&str, u8); 39] = [
    ("excl", b'!'),
    ("quot", b'"'),
    ("QUOT", b'"'),
    ("num", b'#'),
    ("dollar", b'$'),
    ("percnt", b'%'),
    ("amp", b'&'),
    ("AMP", b'&'),
    ("apos", b'\''),
    ("lpar", b'('),
    ("rpar", b')'),
    ("ast", b'*'),
    ("midast", b'*'),
    ("plus", b'+'),
    ("comma", b','),
    ("period", b'.'),
    ("sol", b'/'),
    ("colon", b':'),
    ("semi", b';'),
    ("lt", b'<'),
    ("LT", b'<'),
    ("equals", b'='),
    ("gt", b'>'),
    ("GT", b'>'),
    ("quest", b'?'),
    ("commat", b'@'),
    ("lsqb", b'['),
    ("lbrack", b'['),
    ("bsol", b'\\'),
    ("rsqb", b']'),
    ("rbrack", b']'),
    ("Hat", b'^'),
    ("lowbar", b'_'),
    ("UnderBar", b'_'),
    ("grave", b'`'),
    ("lcub", b'{'),
    ("verbar", b'|'),
    ("vert", b'|'),
    ("rcub", b'}'),
];

/// Whether an escape begins with this byte.
pub(super) const fn is_mark(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'&')
}

/// A partly decoded text.
pub(super) struct Spelled {
    bytes: Vec<u8>,
    /// The position of each byte in the original text, and the end of the text.
    starts: Vec<usize>,
}

/// The result of decoding at one position.
enum Found {
    /// A character, and the length of its escape.
    Character(char, usize),
    /// A byte, and the length of its escape.
    Byte(u8, usize),
    /// An escape that is cut off by the end of the text.
    Cut,
    Plain,
}

impl Spelled {
    pub(super) fn new(text: &str) -> Self {
        Self {
            bytes: text.as_bytes().to_vec(),
            starts: (0..=text.len()).collect(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The part of the original text that `part` comes from. An escape that was cut off belongs to the last byte.
    pub(super) fn source(&self, part: Range<usize>) -> Range<usize> {
        let start = self.starts[part.start];
        let later = self.starts[part.end..].iter().find(|end| **end > start);
        start..later.copied().unwrap_or(start)
    }

    /// Decodes one round; `None` if there is nothing to decode.
    pub(super) fn decode(&self) -> Option<Self> {
        let mut next = Self {
            bytes: Vec::with_capacity(self.bytes.len()),
            starts: Vec::with_capacity(self.starts.len()),
        };
        let mut at = 0;
        while at < self.bytes.len() {
            let start = self.starts[at];
            match found(&self.bytes[at..]) {
                Found::Character(character, length) => {
                    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                        next.push(byte, start);
                    }
                    at += length;
                }
                Found::Byte(byte, length) => {
                    next.push(byte, start);
                    at += length;
                }
                Found::Cut => break,
                Found::Plain => {
                    next.push(self.bytes[at], start);
                    at += 1;
                }
            }
        }
        next.starts.extend(self.starts.last());
        (next.bytes.len() < self.bytes.len()).then_some(next)
    }

    fn push(&mut self, byte: u8, start: usize) {
        self.bytes.push(byte);
        self.starts.push(start);
    }
}

fn found(text: &[u8]) -> Found {
    match text[0] {
        b'%' => percent(text),
        b'\\' => backslash(text),
        b'&' => entity(text),
        _ => Found::Plain,
    }
}

/// `%74`, or `%u0074`.
fn percent(text: &[u8]) -> Found {
    if text.get(1).is_some_and(|byte| matches!(byte, b'u' | b'U')) {
        return hexadecimal(text, 2, 4);
    }
    match hexadecimal(text, 1, 2) {
        Found::Character(character, length) => {
            u8::try_from(u32::from(character)).map_or(Found::Plain, |byte| Found::Byte(byte, length))
        }
        other => other,
    }
}

/// `\u0074`, `\u{74}`, `\U00000074`, `\x74`, `\/` and the like.
fn backslash(text: &[u8]) -> Found {
    match text.get(1) {
        None => Found::Cut,
        Some(b'u') if text.get(2) == Some(&b'{') => {
            let digits = digits(&text[3..], 8, |byte| byte.is_ascii_hexdigit());
            match text.get(3 + digits) {
                None => Found::Cut,
                Some(b'}') => character(&text[3..3 + digits], 16, 4 + digits),
                Some(_) => Found::Plain,
            }
        }
        Some(b'u') => hexadecimal(text, 2, 4),
        Some(b'U') => hexadecimal(text, 2, 8),
        Some(b'x' | b'X') => hexadecimal(text, 2, 2),
        Some(b'n') => Found::Byte(b'\n', 2),
        Some(b'r') => Found::Byte(b'\r', 2),
        Some(b't') => Found::Byte(b'\t', 2),
        Some(byte) if byte.is_ascii_punctuation() => Found::Byte(*byte, 2),
        Some(_) => Found::Plain,
    }
}

/// `&#116;`, `&#x74;`, `&amp;` and the like. The semicolon after a number is optional.
fn entity(text: &[u8]) -> Found {
    let (radix, start) = match text.get(1..3) {
        Some(b"#x" | b"#X") => (16, 3),
        Some([b'#', _]) => (10, 2),
        _ => {
            let length = digits(&text[1..], MAX_ENTITY + 1, |byte| byte.is_ascii_alphabetic());
            let name = &text[1..1 + length];
            let named = ENTITIES.iter().find(|(known, _)| known.as_bytes() == name);
            return match (text.get(1 + length), named) {
                (Some(b';'), Some((_, byte))) => Found::Byte(*byte, length + 2),
                (None, _) => Found::Cut,
                (Some(b'#'), _) if text.len() == 2 => Found::Cut,
                _ => Found::Plain,
            };
        }
    };
    let length = digits(&text[start..], 8, |byte| char::from(byte).is_digit(radix));
    let end = start + length;
    if length == 0 && end < text.len() {
        return Found::Plain;
    }
    match text.get(end) {
        None => Found::Cut,
        Some(b';') => character(&text[start..end], radix, end + 1),
        _ => character(&text[start..end], radix, end),
    }
}

/// Decodes `count` hexadecimal digits from `start`.
fn hexadecimal(text: &[u8], start: usize, count: usize) -> Found {
    let length = digits(&text[start.min(text.len())..], count, |byte| {
        byte.is_ascii_hexdigit()
    });
    if length == count {
        character(&text[start..start + count], 16, start + count)
    } else if start + length >= text.len() {
        Found::Cut
    } else {
        Found::Plain
    }
}

/// How many of the first `most` bytes are digits.
fn digits(text: &[u8], most: usize, is_digit: impl Fn(u8) -> bool) -> usize {
    text.iter().take(most).take_while(|byte| is_digit(**byte)).count()
}

fn character(digits: &[u8], radix: u32, length: usize) -> Found {
    let number = str::from_utf8(digits)
        .ok()
        .and_then(|text| u32::from_str_radix(text, radix).ok());
    match number.and_then(char::from_u32) {
        Some(character) => Found::Character(character, length),
        None => Found::Plain,
    }
}
