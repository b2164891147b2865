//! Replaces secrets in texts from other programs before they are stored, logged or shown.
//!
//! A text is searched as it is, and again after each round of decoding (see `spelling`): percent-encoding, JSON
//! escapes and HTML entities, in part or nested. The original text of a match is replaced. Base64 and hexadecimal
//! forms of a secret are searched for too.

mod spelling;

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretSlice};

use self::spelling::Spelled;

/// Shorter secrets are replaced only as whole words, and those under [`MIN_WORD`] never, since they occur in many
/// words.
const MIN_LENGTH: usize = 8;
const MIN_WORD: usize = 4;
/// Minimum bytes of a secret that is cut off by the end of the text.
const MIN_CUT: usize = 6;
/// Maximum rounds of decoding.
const MAX_ROUNDS: usize = 4;

/// What a byte may begin.
const ESCAPE: u8 = 1;
const NEEDLE: u8 = 2;

/// Replaces secrets in texts.
pub struct Mask {
    needles: Vec<Needle>,
    /// What each byte may begin: [`ESCAPE`], [`NEEDLE`].
    beginnings: Box<[u8; 256]>,
    /// Whether a needle may begin with a pair of bytes, by [`pair`].
    begins: Box<[bool; PAIRS]>,
    shortest: usize,
    replacement: &'static str,
}

/// One form of a secret, after [`fold`].
struct Needle {
    form: SecretSlice<u8>,
    /// Whether it is replaced only as a whole word.
    is_word: bool,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask").finish_non_exhaustive()
    }
}

impl Mask {
    /// A mask that replaces `secrets` by `replacement`.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>, replacement: &'static str) -> Self {
        let mut mask = Self {
            needles: Vec::new(),
            beginnings: Box::new(ESCAPES),
            begins: Box::new([false; PAIRS]),
            shortest: usize::MAX,
            replacement,
        };
        for secret in secrets {
            mask.add(secret);
        }
        mask
    }

    fn add(&mut self, secret: &[u8]) {
        let is_plain = secret.iter().all(u8::is_ascii_lowercase);
        match secret.len() {
            MIN_LENGTH.. => {}
            MIN_WORD.. if !is_plain => return self.search_for(secret, true),
            _ => return,
        }
        self.search_for(secret, false);
        if let Ok(text) = str::from_utf8(secret) {
            let decoded = Zeroizing::new(decode(text));
            if *decoded != secret && decoded.len() >= MIN_LENGTH {
                self.search_for(&decoded, false);
            }
        }
        let within = (0..3).map(|before| base64_within(secret, before));
        for form in within.chain([STANDARD_NO_PAD.encode(secret)]).map(Zeroizing::new) {
            if form.len() >= MIN_LENGTH {
                self.search_for(form.as_bytes(), false);
            }
        }
        let digits = |byte: &u8| [byte >> 4, byte & 0xf].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
        let hexadecimal: Zeroizing<Vec<u8>> = Zeroizing::new(secret.iter().flat_map(digits).collect());
        self.search_for(&hexadecimal, false);
    }

    fn search_for(&mut self, form: &[u8], is_word: bool) {
        let form: Vec<u8> = form.iter().copied().map(fold).collect();
        for byte in (0..=u8::MAX).filter(|byte| fold(*byte) == form[0]) {
            self.beginnings[usize::from(byte)] |= NEEDLE;
        }
        self.begins[pair(form[0], form[1])] = true;
        let least = if is_word { form.len() } else { MIN_CUT };
        self.shortest = self.shortest.min(least);
        self.needles.push(Needle {
            form: SecretSlice::from(form),
            is_word,
        });
    }

    /// `text` without the secrets.
    #[must_use]
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        // Decoding never makes a text longer.
        if text.len() < self.shortest {
            return Cow::Borrowed(text);
        }
        let mut found = Vec::new();
        let beginnings = self.find(text.as_bytes(), |range| found.push(range));
        if beginnings & ESCAPE != 0 {
            let mut spelled = Spelled::new(text);
            for _ in 0..MAX_ROUNDS {
                let Some(next) = spelled.decode() else { break };
                spelled = next;
                self.find(spelled.bytes(), |range| found.push(spelled.source(range)));
            }
        }
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(replace(text, found, self.replacement))
    }

    /// Removes the secrets from `text`.
    pub fn apply_to(&self, text: &mut String) {
        if let Cow::Owned(masked) = self.apply(text) {
            *text = masked;
        }
    }

    /// Calls `found` with each secret. Returns what the bytes may begin.
    fn find(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) -> u8 {
        let mut beginnings = 0;
        for (start, byte) in text.iter().enumerate() {
            // Two cheap tests, since every stored text is searched.
            let beginning = self.beginnings[usize::from(*byte)];
            beginnings |= beginning;
            if beginning & NEEDLE == 0 {
                continue;
            }
            if text
                .get(start + 1)
                .is_none_or(|next| !self.begins[pair(*byte, *next)])
            {
                continue;
            }
            for needle in &self.needles {
                if let Some(end) = needle.end_in(text, start) {
                    found(start..end);
                }
            }
        }
        beginnings
    }
}

impl Needle {
    /// The end of the match that begins at `start`; it may be cut off by the end of the text.
    fn end_in(&self, text: &[u8], start: usize) -> Option<usize> {
        let form = self.form.expose_secret();
        let rest = &text[start..];
        let length = rest.len().min(form.len());
        if length < form.len() && (self.is_word || length < MIN_CUT) {
            return None;
        }
        let is_same = rest[..length]
            .iter()
            .zip(form)
            .all(|(byte, wanted)| fold(*byte) == *wanted);
        let end = start + length;
        let is_alone = || {
            let before = start.checked_sub(1).map(|at| text[at]);
            let after = text.get(end).copied();
            [before, after]
                .into_iter()
                .flatten()
                .all(|byte| !byte.is_ascii_alphanumeric())
        };
        (is_same && (!self.is_word || is_alone())).then_some(end)
    }
}

/// Maps bytes that spellings may exchange to one: case, and the characters that differ between the base64 alphabets.
const fn fold(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other.to_ascii_lowercase(),
    }
}

/// The bytes that may begin an escape.
const ESCAPES: [u8; 256] = {
    let mut beginnings = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if spelling::is_mark(byte as u8) {
            beginnings[byte] = ESCAPE;
        }
        byte += 1;
    }
    beginnings
};

/// The number of values of [`pair`].
const PAIRS: usize = 1 << 10;

/// The lower five bits of each byte, folded.
const FOLDED: [u8; 256] = {
    let mut folded = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        folded[byte] = fold(byte as u8) & 31;
        byte += 1;
    }
    folded
};

/// A small number for two folded bytes.
fn pair(first: u8, second: u8) -> usize {
    usize::from(FOLDED[usize::from(first)]) << 5 | usize::from(FOLDED[usize::from(second)])
}

/// Decodes `text` until nothing changes.
fn decode(text: &str) -> Vec<u8> {
    let mut spelled = Spelled::new(text);
    for _ in 0..MAX_ROUNDS {
        match spelled.decode() {
            Some(next) => spelled = next,
            None => break,
        }
    }
    spelled.bytes().to_vec()
}

/// The characters of `secret` in base64 that do not depend on its surroundings, when `before` bytes (modulo 3)
/// precede it.
fn base64_within(secret: &[u8], before: usize) -> String {
    let padded = Zeroizing::new([&[0; 2][..before], secret].concat());
    let encoded = Zeroizing::new(STANDARD_NO_PAD.encode(&*padded));
    // Six bits per character: those that share bits with the surroundings are left out.
    let first = (before * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    encoded[first..end].to_owned()
}

/// Replaces these parts of `text`. Adjacent parts are replaced once.
fn replace(text: &str, mut parts: Vec<Range<usize>>, replacement: &str) -> String {
    parts.sort_unstable_by_key(|part| part.start);
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for part in parts {
        // Secrets need not be UTF-8, so a part may begin or end within a character.
        let start = text.floor_char_boundary(part.start);
        let end = text.ceil_char_boundary(part.end);
        if start > done || done == 0 {
            result.push_str(&text[done..start.max(done)]);
            result.push_str(replacement);
        }
        done = done.max(end);
    }
    result.push_str(&text[done..]);
    result
}

#[cfg(test)]
mod tests;
