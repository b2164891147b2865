//! URLs in settings.

use url::{Host, Url};

use super::reader::Reader;

/// An `http` or `https` URL without credentials. Messages do not show it, because it may contain a secret.
pub(super) fn web_address(reader: &mut Reader<'_>, key: &str) -> Option<Url> {
    const HELP: &str = "use a full URL, such as https://www.example.com/path";
    let url = match Url::parse(reader.text(key, "a URL")?) {
        Ok(url) => url,
        Err(error) => {
            reader.fail(key, format!("is not a valid URL: {error}"), HELP);
            return None;
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        reader.fail(
            key,
            format!("has the unsupported scheme {:?}", url.scheme()),
            HELP,
        );
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        reader.fail(
            key,
            "contains a user name or password",
            "remove what is before the @; secrets are read from files",
        );
        return None;
    }
    Some(url)
}

/// Whether the host of the URL is a loopback address or name.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names() {
        for host in [
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
            "LOCALHOST:1",
            "a.localhost.",
        ] {
            assert!(
                is_loopback(&Url::parse(&format!("http://{host}/")).unwrap()),
                "{host}"
            );
        }
        for host in [
            "10.0.0.1",
            "[fe80::1]",
            "example.com",
            "localhost.example.com",
            "notlocalhost",
            "0.0.0.0",
        ] {
            assert!(
                !is_loopback(&Url::parse(&format!("http://{host}/")).unwrap()),
                "{host}"
            );
        }
    }
}
