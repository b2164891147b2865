//! Refuses link-local and metadata addresses, where clouds serve a machine's credentials. A receiver's name could lead
//! there by mistake or by DNS rebinding.
//!
//! Names are checked after they are resolved. With `HTTPS_PROXY` or `HTTP_PROXY` the proxy resolves names and must do
//! this check; addresses written into the URL are refused in any case.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use url::{Host, Url};

/// The endpoint has a forbidden address.
#[derive(Debug, Error)]
#[error(
    "{host} is at the link-local or metadata address {address}, to which no event is sent; change the webhook's url"
)]
pub struct ForbiddenAddress {
    /// The host, as in the URL.
    host: String,
    /// Its address.
    address: IpAddr,
}

/// The AWS metadata service over IPv6.
const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Checks a URL whose host is an address, since addresses are not resolved. Names pass.
///
/// # Errors
/// When the address is forbidden.
pub fn check_literal(url: &Url) -> Result<(), ForbiddenAddress> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if is_forbidden(address) {
        return Err(ForbiddenAddress {
            host: url.host_str().unwrap_or_default().to_owned(),
            address,
        });
    }
    Ok(())
}

/// The system's resolver without forbidden addresses.
#[derive(Debug, Clone, Copy)]
pub struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The caller sets the port.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = permitted(name.as_str(), found)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn permitted(
    host: &str,
    found: impl IntoIterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, ForbiddenAddress> {
    let (forbidden, permitted): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| is_forbidden(address.ip()));
    match forbidden.first() {
        Some(address) if permitted.is_empty() => Err(ForbiddenAddress {
            host: host.to_owned(),
            address: address.ip(),
        }),
        _ => Ok(permitted),
    }
}

/// Whether the address is link-local or a metadata service, in any notation.
#[must_use]
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address == AWS_METADATA
                || embedded(address).is_some_and(|mut inner| inner.any(|address| address.is_link_local()))
        }
    }
}

/// The IPv4 addresses that an IPv6 address may embed.
fn embedded(address: Ipv6Addr) -> Option<impl Iterator<Item = Ipv4Addr>> {
    let octets = address.octets();
    let at = move |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    let places: &[[usize; 4]] = match address.segments() {
        // IPv4-compatible (::a.b.c.d), IPv4-mapped (::ffff:a.b.c.d), IPv4-translated (::ffff:0:a.b.c.d), NAT64.
        [0, 0, 0, 0, 0, 0, _, _]
        | [0, 0, 0, 0, 0, 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => &[[12, 13, 14, 15]],
        // NAT64 with a local prefix: the position of the IPv4 address depends on the prefix length (48, 56, 64 or 96
        // bits), which the address does not show. Octet 8 is always skipped.
        [0x64, 0xff9b, 1, ..] => &[[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]],
        // 6to4.
        [0x2002, ..] => &[[2, 3, 4, 5]],
        _ => return None,
    };
    Some(places.iter().map(move |places| at(*places)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORBIDDEN: [&str; 22] = [
        "169.254.0.0",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.255.255",
        "fe80::1",
        "fe80::",
        "febf:ffff::1",
        "fd00:ec2::254",
        "::169.254.169.254",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "::ffff:0:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b::a9fe:1",
        "64:ff9b:1::169.254.169.254",
        "64:ff9b:1:ffff:ffff:ffff:169.254.0.1",
        // RFC 6052, 2.2: prefixes of 48, 56 and 64 bits.
        "64:ff9b:1:a9fe:a9:fe00::",
        "64:ff9b:1:aaa9:fe:a9fe::",
        "64:ff9b:1:aaaa:a9:fea9:fe00:0",
        "2002:a9fe:a9fe::1",
        "2002:a9fe:1::",
        "fe80:0:0:1::1",
    ];

    #[test]
    fn link_local_and_metadata_addresses_are_forbidden_in_every_form() {
        for address in FORBIDDEN {
            assert!(is_forbidden(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn their_neighbours_are_not() {
        for address in [
            "169.253.255.255",
            "169.255.0.0",
            "127.0.0.1",
            "10.0.0.1",
            "192.168.1.1",
            "0.0.0.0",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.255.0.0",
            "64:ff9b::8.8.8.8",
            "64:ff9a::169.254.169.254",
            "64:ff9b:2::169.254.169.254",
            "fe7f::1",
            "fec0::1",
            "fd00:ec2::253",
            "2001:db8::169.254.169.254",
            "2002:a9ff:1::",
        ] {
            assert!(!is_forbidden(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn urls_with_such_an_address_are_refused_however_it_is_written() {
        for host in [
            "169.254.169.254",
            "169.254.169.254.",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "169.254.43518",
            "[fe80::1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[fd00:ec2::254]",
            "①⑥⑨.254.169.254",
        ] {
            let url = Url::parse(&format!("http://{host}/latest/meta-data")).unwrap();
            assert!(check_literal(&url).is_err(), "{host}");
        }
        for host in [
            "127.0.0.1",
            "[::1]",
            "metadata.google.internal",
            "169-254-169-254.example",
        ] {
            let url = Url::parse(&format!("https://{host}/")).unwrap();
            assert!(check_literal(&url).is_ok(), "{host}");
        }
    }

    #[test]
    fn of_a_names_addresses_the_permitted_ones_are_left() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let both = permitted("a.example", [address("169.254.1.1"), address("192.0.2.1")]);
        assert_eq!(both.unwrap(), [address("192.0.2.1")]);
        let error = permitted("a.example", [address("169.254.1.1"), address("fe80::1")]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("a.example is at the link-local or metadata address 169.254.1.1"),
            "{error}"
        );
        assert!(permitted("a.example", []).unwrap().is_empty());
    }
}
