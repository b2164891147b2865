use proptest::prelude::*;

use super::*;

const KEY: &str = "amp-Key_4f1c/9a+77=";

fn masked(text: &str) -> String {
    Mask::new([KEY.as_bytes()], "[key]").apply(text).into_owned()
}

fn each(text: &str, spell: impl Fn(char) -> String) -> String {
    text.chars().map(spell).collect()
}

/// The ways in which a text comes back.
fn spellings(text: &str) -> Vec<String> {
    let some = |spell: fn(char) -> String| {
        let mut odd = false;
        text.chars()
            .map(|c| {
                odd = !odd;
                if odd { spell(c) } else { c.to_string() }
            })
            .collect::<String>()
    };
    let percent = each(text, |c| format!("%{:02x}", u32::from(c)));
    let letters = each(text, |c| format!("\\u{:04x}", u32::from(c)));
    vec![
        text.to_owned(),
        text.to_uppercase(),
        text.to_lowercase(),
        percent.to_uppercase(),
        some(|c| format!("%{:02X}", u32::from(c))),
        letters.replace('\\', "\\\\"),
        some(|c| format!("\\u{:04X}", u32::from(c))),
        some(|c| format!("\\x{:02x}", u32::from(c))),
        some(|c| format!("\\u{{{:x}}}", u32::from(c))),
        each(text, |c| format!("&#{};", u32::from(c))),
        some(|c| format!("&#x{:X};", u32::from(c))),
        text.replace('/', "\\/")
            .replace('=', "&equals;")
            .replace('_', "&lowbar;"),
        percent.replace('%', "%25"),
        percent.replace('%', "\\u0025"),
        letters.replace('\\', "%5C"),
        percent,
        letters,
        each(text, |c| format!("{:02x}", u32::from(c))),
        STANDARD_NO_PAD.encode(text),
        STANDARD_NO_PAD
            .encode(format!("user:{text}"))
            .replace('+', "-")
            .replace('/', "_"),
        STANDARD_NO_PAD.encode(format!("me:{text}:more")),
        STANDARD_NO_PAD.encode(format!("x{text}")).replace('/', "%2F"),
    ]
}

#[test]
fn no_spelling_is_left() {
    for spelled in spellings(KEY) {
        let text = masked(&format!("before {spelled} after"));
        assert!(text.starts_with("before ") && text.ends_with(" after"), "{text}");
        assert!(text.contains("[key]"), "{spelled} is left: {text}");
        // At most what base64 shares with its neighbours is left of it.
        assert!(text.len() <= "before [key] after".len() + 24, "{spelled}: {text}");
    }
}

#[test]
fn all_else_stays_as_it_is() {
    for text in [
        "",
        "nothing to see: 100 % of \\u0041 & &amp; \\",
        "amp- amp-Key_4f1c/9a+77 the key without its end is another",
        "größer &#9731; %e2%98%83",
    ] {
        assert!(
            matches!(Mask::new([KEY.as_bytes()], "[key]").apply(text), Cow::Borrowed(same) if same == text)
        );
    }
    assert_eq!(masked(&format!("ä{KEY}{KEY}ü")), "ä[key]ü");
    assert_eq!(masked(&format!("%41 {KEY} %41")), "%41 [key] %41");
}

#[test]
fn a_secret_that_is_cut_at_the_end_is_replaced_as_far_as_it_goes() {
    assert_eq!(masked("the key amp-Key_4f"), "the key [key]");
    assert_eq!(masked("the key amp-"), "the key amp-");
    let spelled = each(KEY, |c| format!("\\u{:04x}", u32::from(c)));
    for cut in 40..spelled.len() {
        assert_eq!(masked(&format!("the key {}", &spelled[..cut])), "the key [key]");
    }
    let spelled = each(KEY, |c| format!("&#{};", u32::from(c)));
    assert_eq!(masked(&format!("the key {}", &spelled[..50])), "the key [key]");
}

#[test]
fn a_short_secret_is_replaced_only_as_a_whole_word() {
    let mask = Mask::new([&b"k3y-7"[..], b"word", b"a1"], "[key]");
    assert_eq!(mask.apply("(K3Y-7) %6b3y-7 ok3y-7"), "([key]) [key] ok3y-7");
    assert_eq!(mask.apply("a word a1"), "a word a1");
    assert_eq!(Mask::new([], "[key]").apply("anything"), "anything");
}

#[test]
fn a_secret_with_escapes_of_its_own_is_found_decoded_too() {
    let mask = Mask::new([&b"T00%2Fhook%20name"[..]], "[key]");
    for text in [
        "T00%2Fhook%20name",
        "T00/hook name",
        "T00%252Fhook%2520name",
        "T00\\/hook name",
    ] {
        assert_eq!(mask.apply(text), "[key]", "{text}");
    }
}

#[test]
fn secrets_that_are_no_text_are_found_in_base64() {
    let secret = [0xff, 0x00, 0xc3, 0x28, 1, 2, 3, 4, 5, 6, 7, 8];
    let mask = Mask::new([&secret[..]], "[key]");
    assert_eq!(mask.apply(&STANDARD_NO_PAD.encode(secret)), "[key]");
    // The bytes are searched for in all texts, and never split a character.
    assert_eq!(mask.apply("ÿ\u{0}Ã("), "ÿ\u{0}Ã(");
    assert!(!format!("{mask:?}").contains("40"));
}

proptest! {
    /// Any mixture of spellings, character by character, several times over.
    #[test]
    fn no_mixture_of_spellings_is_left(
        secret in "[a-zA-Z0-9_./+=~-]{8,40}",
        kinds in prop::collection::vec(0_u8..7, 40),
        twice in any::<bool>(),
        around in "[ -~ä\\n]{0,20}",
    ) {
        let spell = |text: &str| -> String {
            text.chars().zip(kinds.iter().cycle()).map(|(c, kind)| {
                let code = u32::from(c);
                match kind {
                    0 => format!("%{code:02x}"),
                    1 => format!("%{code:02X}"),
                    2 => format!("\\u{code:04x}"),
                    3 => format!("\\x{code:02x}"),
                    4 => format!("&#{code};"),
                    5 => format!("&#x{code:x};"),
                    _ => c.to_string(),
                }
            }).collect()
        };
        let once = spell(&secret);
        let spelled = if twice { once.replace('%', "%25").replace('\\', "\\\\").replace('&', "&amp;") } else { once };
        let mask = Mask::new([secret.as_bytes()], "[key]");
        // White space around it, so that its neighbours cannot be part of an escape.
        let text = mask.apply(&format!("{around} {spelled} {around}")).into_owned();
        prop_assert!(text.contains(" [key] "), "{text}");
    }

    #[test]
    fn any_text_is_taken(text in "\\PC{0,60}", secret in prop::collection::vec(any::<u8>(), 0..20)) {
        let _ = Mask::new([&secret[..]], "[key]").apply(&text);
    }
}
