//! The source of the product, parsed once: what each file names, logs and prints. Tests are left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, FnArg, Lit, Meta, Token, Type};

/// The macros that write a line of the log.
const LOG_MACROS: [&str; 7] = ["trace", "debug", "info", "warn", "error", "event", "line"];
/// Macros with texts that no user reads: panics, and SQL.
const SILENT_MACROS: [&str; 12] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "checksum_of",
    "debug_assert",
    "debug_assert_eq",
    "panic",
    "select_events",
    "select_heads",
    "statements",
    "unimplemented",
    "unreachable",
];
/// The traits that turn a type into a part of the command line.
const CLAP_TRAITS: [&str; 4] = ["Args", "Parser", "Subcommand", "ValueEnum"];

/// A file below `src/`.
#[derive(Debug, Default)]
pub struct Module {
    /// As other modules name it: `report::webhook::send`.
    pub name: String,
    /// From the folder of the package: `src/report/webhook/send.rs`.
    pub file: String,
    /// Every path and every chain of fields and methods, also those inside of macros. `use` groups are expanded.
    pub chains: Vec<Chain>,
    pub macros: Vec<Chain>,
    pub log_calls: Vec<LogCall>,
    /// String literals; those of attributes, log messages, panics and SQL macros are left out.
    pub strings: Vec<String>,
    /// The texts of `#[error]`.
    pub errors: Vec<String>,
    /// The help of the command line.
    pub help: Vec<String>,
    pub functions: Vec<Function>,
    /// Every string literal, wherever it is.
    pub literals: Vec<String>,
}

/// `a::b.c()`: arguments end a chain, an empty pair of parentheses does not.
#[derive(Debug)]
pub struct Chain {
    pub text: String,
    pub line: usize,
}

/// A call of a macro that logs.
#[derive(Debug)]
pub struct LogCall {
    pub level: String,
    /// Without white space.
    pub arguments: Vec<String>,
    /// The message, if it is a literal.
    pub message: Option<String>,
}

#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub line: usize,
    /// Whether each parameter is a `bool`.
    pub bools: Vec<bool>,
}

impl Module {
    pub fn is_within(&self, modules: &[&str]) -> bool {
        modules.iter().any(|module| {
            let rest = self.name.strip_prefix(module);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
    }

    /// Where a name is used, as `file:line`.
    pub fn places_of(&self, name: &str) -> Vec<String> {
        let chains = self.chains.iter().filter(|chain| has_name(&chain.text, name));
        chains
            .map(|chain| format!("{}:{}: {}", self.file, chain.line, chain.text))
            .collect()
    }

    /// Reads the source of a module.
    pub fn parse(source: &str) -> Self {
        let mut module = Self::default();
        let tokens = without_tests(source.parse().unwrap());
        module.read_tokens(&tokens, "", true);
        module.visit_file(&syn::parse2(tokens).unwrap());
        module
    }

    /// `prefix` comes before every name, as in a `use` group.
    fn read_tokens(&mut self, tokens: &TokenStream, prefix: &str, is_read_by_users: bool) {
        let mut chain = Chain {
            text: String::new(),
            line: 0,
        };
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| &tokens[before]);
            match token {
                TokenTree::Ident(ident) => {
                    if !chain.text.ends_with(['.', ':']) {
                        self.end(&mut chain);
                    }
                    if chain.text.is_empty() {
                        chain.text.push_str(prefix);
                        chain.line = ident.span().start().line;
                    }
                    chain.text.push_str(&ident.to_string());
                }
                TokenTree::Punct(punct) if punct.as_char() == '.' || is_path_separator(&tokens, index) => {
                    if chain.text.is_empty() {
                        chain.line = punct.span().start().line;
                    }
                    chain.text.push(punct.as_char());
                }
                TokenTree::Punct(_) => self.end(&mut chain),
                TokenTree::Literal(literal) => {
                    self.end(&mut chain);
                    if let Some(text) = string(&literal.to_string()) {
                        self.literals.push(text.clone());
                        if is_read_by_users {
                            self.strings.push(text);
                        }
                    }
                }
                TokenTree::Group(group) => {
                    let is_empty = group.stream().is_empty() && group.delimiter() == Delimiter::Parenthesis;
                    if is_empty && !chain.text.is_empty() {
                        chain.text.push_str("()");
                        continue;
                    }
                    let is_use_group = chain.text.ends_with("::");
                    let prefix = if is_use_group {
                        std::mem::take(&mut chain.text)
                    } else {
                        self.end(&mut chain);
                        String::new()
                    };
                    let is_attribute = is_mark(before, '#')
                        || is_mark(before, '!') && index > 1 && is_mark(Some(&tokens[index - 2]), '#');
                    let is_panic = matches!(before, Some(TokenTree::Ident(ident)) if *ident == "expect" || *ident == "expect_err");
                    let is_silent = is_attribute || is_panic || self.read_macro(&tokens[..index], group);
                    self.read_tokens(&group.stream(), &prefix, is_read_by_users && !is_silent);
                }
            }
        }
        self.end(&mut chain);
    }

    /// Notes the macro that `group` has the arguments of, if it does. Whether no user reads the texts in it.
    fn read_macro(&mut self, before: &[TokenTree], group: &Group) -> bool {
        let [.., TokenTree::Ident(name), TokenTree::Punct(mark)] = before else {
            return false;
        };
        if mark.as_char() != '!' {
            return false;
        }
        let (text, line) = (name.to_string(), name.span().start().line);
        let is_silent = SILENT_MACROS.contains(&text.as_str());
        if LOG_MACROS.contains(&text.as_str()) {
            let arguments = arguments(group.stream());
            let message = arguments.iter().find_map(|argument| match argument.as_slice() {
                [TokenTree::Literal(literal)] => string(&literal.to_string()),
                _ => None,
            });
            let arguments = arguments
                .into_iter()
                .map(|argument| compact(argument.into_iter().collect()));
            self.log_calls.push(LogCall {
                level: text.clone(),
                arguments: arguments.collect(),
                message,
            });
        }
        self.macros.push(Chain { text, line });
        is_silent
    }

    fn end(&mut self, chain: &mut Chain) {
        let text = std::mem::take(&mut chain.text);
        if !text.is_empty() {
            let line = chain.line;
            self.chains.push(Chain { text, line });
        }
    }
}

impl Visit<'_> for Module {
    fn visit_attribute(&mut self, attribute: &Attribute) {
        if attribute.path().is_ident("error") {
            self.errors.extend(strings_of(attribute));
        }
    }

    fn visit_signature(&mut self, signature: &syn::Signature) {
        let is_bool = |parameter: &FnArg| match parameter {
            FnArg::Typed(parameter) => {
                matches!(&*parameter.ty, Type::Path(path) if path.path.is_ident("bool"))
            }
            FnArg::Receiver(_) => false,
        };
        self.functions.push(Function {
            name: signature.ident.to_string(),
            line: signature.ident.span().start().line,
            bools: signature.inputs.iter().map(is_bool).collect(),
        });
        visit::visit_signature(self, signature);
    }

    fn visit_item_enum(&mut self, item: &syn::ItemEnum) {
        if is_command_line(&item.attrs) {
            Help(&mut self.help).visit_item_enum(item);
        }
        visit::visit_item_enum(self, item);
    }

    fn visit_item_struct(&mut self, item: &syn::ItemStruct) {
        if is_command_line(&item.attrs) {
            Help(&mut self.help).visit_item_struct(item);
        }
        visit::visit_item_struct(self, item);
    }
}

/// Collects the texts of a type that clap reads.
struct Help<'a>(&'a mut Vec<String>);

impl Visit<'_> for Help<'_> {
    fn visit_item_enum(&mut self, item: &syn::ItemEnum) {
        self.0.extend(doc(&item.attrs));
        visit::visit_item_enum(self, item);
    }

    fn visit_item_struct(&mut self, item: &syn::ItemStruct) {
        self.0.extend(doc(&item.attrs));
        visit::visit_item_struct(self, item);
    }

    fn visit_field(&mut self, field: &syn::Field) {
        self.0.extend(doc(&field.attrs));
        visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &syn::Variant) {
        self.0.extend(doc(&variant.attrs));
        visit::visit_variant(self, variant);
    }

    fn visit_attribute(&mut self, attribute: &Attribute) {
        if attribute.path().is_ident("arg") || attribute.path().is_ident("command") {
            self.0.extend(strings_of(attribute));
        }
    }
}

fn is_command_line(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let parser = Punctuated::<syn::Path, Token![,]>::parse_terminated;
        attribute.path().is_ident("derive")
            && attribute.parse_args_with(parser).is_ok_and(|paths| {
                let mut names = paths.iter().filter_map(|path| path.segments.last());
                names.any(|name| CLAP_TRAITS.contains(&name.ident.to_string().as_str()))
            })
    })
}

/// The doc comment, a paragraph a line.
fn doc(attributes: &[Attribute]) -> Option<String> {
    let lines: Vec<String> = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(value) if value.path.is_ident("doc") => match &value.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text), ..
                }) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let paragraphs = lines.split(|line| line.is_empty()).map(|lines| lines.join(" "));
    let text = paragraphs.collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then_some(text)
}

/// The string literals in the arguments of an attribute.
fn strings_of(attribute: &Attribute) -> Vec<String> {
    let Meta::List(list) = &attribute.meta else {
        return Vec::new();
    };
    let tokens = list.tokens.clone().into_iter();
    tokens
        .filter_map(|token| match token {
            TokenTree::Literal(literal) => string(&literal.to_string()),
            _ => None,
        })
        .collect()
}

/// The content of a string literal.
fn string(literal: &str) -> Option<String> {
    match syn::parse_str(literal) {
        Ok(Lit::Str(text)) => Some(text.value()),
        _ => None,
    }
}

fn is_mark(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

/// Whether the token is one of the two colons of `::`.
fn is_path_separator(tokens: &[TokenTree], index: usize) -> bool {
    let is_first = |index: usize| matches!(&tokens[index], TokenTree::Punct(punct) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint);
    is_mark(tokens.get(index), ':') && (is_first(index) || index > 0 && is_first(index - 1))
}

/// Whether the name is in `text`, and is not a part of a longer name at its start or end.
pub fn has_name(text: &str, name: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(name).any(|(start, found)| {
        let before = text[..start].chars().next_back();
        let after = text[start + found.len()..].chars().next();
        let begins_earlier = found.starts_with(is_part) && before.is_some_and(is_part);
        let ends_later = found.ends_with(is_part) && after.is_some_and(is_part);
        !begins_earlier && !ends_later
    })
}

/// Leaves out items marked `#[cfg(test)]`.
fn without_tests(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) if compact(group.stream()) == "cfg(test)" => {
                // The `#` of the attribute.
                kept.pop();
                // The item ends with its body or with a semicolon.
                tokens.find(|token| {
                    is_mark(Some(token), ';')
                        || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
                });
            }
            TokenTree::Group(group) => {
                let mut inside = Group::new(group.delimiter(), without_tests(group.stream()));
                inside.set_span(group.span());
                kept.push(inside.into());
            }
            token => kept.push(token),
        }
    }
    kept.into_iter().collect()
}

fn arguments(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut arguments = vec![Vec::new()];
    for token in tokens {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == ',' => arguments.push(Vec::new()),
            _ => arguments.last_mut().unwrap().push(token),
        }
    }
    arguments
}

/// Tokens without the white space between them.
fn compact(tokens: TokenStream) -> String {
    let mut text = String::new();
    let mut was_word = false;
    for token in tokens {
        let is_word = matches!(token, TokenTree::Ident(_) | TokenTree::Literal(_));
        if was_word && is_word {
            text.push(' ');
        }
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                text.push_str(&compact(group.stream()));
                text.push_str(close);
            }
            TokenTree::Punct(punct) if punct.as_char() == ',' => text.push_str(", "),
            other => text.push_str(&other.to_string()),
        }
        was_word = is_word;
    }
    text
}

/// Every file below `src/`, but those of tests.
pub fn product() -> &'static [Module] {
    static PRODUCT: LazyLock<Vec<Module>> = LazyLock::new(|| {
        let root = root();
        let mut modules = Vec::new();
        let mut folders = vec![root.join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let is_of_tests = path.file_stem().is_some_and(|name| name == "tests");
                if path.is_dir() && !is_of_tests {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") && !is_of_tests {
                    let source = fs::read_to_string(&path).unwrap();
                    let file = path.strip_prefix(&root).unwrap();
                    let name = file.strip_prefix("src").unwrap().with_extension("");
                    let name = name.to_str().unwrap().replace('/', "::");
                    modules.push(Module {
                        name: name.strip_suffix("::mod").unwrap_or(&name).to_owned(),
                        file: file.display().to_string(),
                        ..Module::parse(&source)
                    });
                }
            }
        }
        assert!(modules.len() > 50, "the source was not found");
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        modules
    });
    &PRODUCT
}

/// The folder of the package.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn comments_strings_and_tests_are_not_code() {
    let module = Module::parse(
        "fn a() { b::c(\"d \\\" // e\", /* f\n g */ 'h'); } // i\n#[cfg(test)] mod j { fn k() {} }\n\
         #[cfg(test)]\nuse l;\nmod m { #[cfg(test)] fn n() {} fn o() {} }",
    );
    let names: Vec<&str> = module.chains.iter().map(|chain| chain.text.as_str()).collect();
    assert_eq!(names, ["fn", "a()", "b::c", "mod", "m", "fn", "o()"]);
    assert_eq!(module.strings, ["d \" // e"]);
    assert_eq!(module.chains.last().unwrap().line, 6);
}

#[test]
fn names_are_found_whole_in_groups_and_in_macros() {
    let module = Module::parse(
        "use a::{b, c::{d, self}}; fn e() { f.g().h(1)?.i; select! { _ = j::k() => l!(m.n) } }",
    );
    for name in ["a::b", "a::c::d", "f.g().h", ".i", "j::k", "m.n"] {
        assert_eq!(module.places_of(name).len(), 1, "{name}: {:?}", module.chains);
    }
    assert!(has_name("unsafe", "unsafe") && !has_name("unsafe_code", "unsafe"));
    assert!(has_name("store.commit", ".commit") && !has_name("store.commits", ".commit"));
    assert!(has_name("tokio::time", "tokio::") && !has_name("my_tokio::time", "tokio::"));
}

#[test]
fn texts_are_found_by_their_kind() {
    let module = Module::parse(
        "#[derive(Debug, clap::Args)] struct A { /// First\n/// part.\n///\n/// More.\n #[arg(help = \"b\")] c: bool }
         #[derive(thiserror::Error)] enum E { #[error(\"d {0}\")] F(u8) }
         fn g(h: bool, i: bool) { warn!(j, \"k\"); format!(\"l\"); m.expect(\"n\"); panic!(\"o\") }",
    );
    assert_eq!(module.help, ["First part.\nMore.", "b"]);
    assert_eq!(module.errors, ["d {0}"]);
    assert_eq!(module.strings, ["k", "l"]);
    assert_eq!(module.log_calls[0].message.as_deref(), Some("k"));
    assert_eq!(module.functions[0].bools, [true, true]);
}
