//! From one TOML value to one checked value; units are written in strings.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

/// Why a value is not accepted: the text beside the caret.
pub(super) type Label = String;

/// An integer in bounds.
pub(super) fn count<T>(bounds: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, Label>
where
    T: Copy + PartialOrd + fmt::Display + TryFrom<i64>,
{
    move |value| {
        let wanted =
            || format!("expected a whole number from {} to {}", bounds.start(), bounds.end());
        let number = integer(value).ok_or_else(wanted)?;
        T::try_from(number).ok().filter(|number| bounds.contains(number)).ok_or_else(wanted)
    }
}

/// A power of two in bounds.
pub(super) fn power_of_two(
    bounds: RangeInclusive<u32>,
) -> impl Fn(&DeValue<'_>) -> Result<u32, Label> {
    move |value| {
        let number = count(bounds.clone())(value)?;
        if number.is_power_of_two() {
            return Ok(number);
        }
        let above = number.next_power_of_two();
        Err(format!("expected a power of two, such as {} or {above}", above / 2))
    }
}

/// A duration in bounds, as in "250ms".
pub(super) fn duration(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Duration, Label> {
    move |value| {
        let wanted = || {
            let (least, most) = (bounds.start(), bounds.end());
            format!("expected a duration from \"{least:?}\" to \"{most:?}\", as in \"250ms\"")
        };
        let parsed = value.as_str().and_then(parse_duration).ok_or_else(wanted)?;
        if bounds.contains(&parsed) { Ok(parsed) } else { Err(wanted()) }
    }
}

/// A number of bytes, as in "64MiB" or 65536.
pub(super) fn size(bounds: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, Label> {
    move |value| {
        let wanted = || {
            format!("expected from {} to {} bytes, as in \"4KiB\"", bounds.start(), bounds.end())
        };
        let bytes = match value.as_str() {
            Some(text) => parse_size(text),
            None => integer(value).and_then(|bytes| u64::try_from(bytes).ok()),
        };
        bytes.filter(|bytes| bounds.contains(bytes)).ok_or_else(wanted)
    }
}

/// A whole percentage from 1 to 100, as in "50%".
pub(super) fn percent(value: &DeValue<'_>) -> Result<u8, Label> {
    let number = value.as_str().and_then(|text| digits(text.strip_suffix('%')?));
    let percent = number.and_then(|number| u8::try_from(number).ok());
    percent
        .filter(|percent| (1..=100).contains(percent))
        .ok_or_else(|| "expected a whole percentage from \"1%\" to \"100%\"".to_owned())
}

/// One of a few words.
pub(super) fn word<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&DeValue<'_>) -> Result<T, Label> {
    move |value| {
        let text = value.as_str();
        let found = words.iter().find(|(word, _)| Some(*word) == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("expected {}", all.join(" or "))
        })
    }
}

/// 16 bits in hexadecimal, as in "6d5a".
pub(super) fn hex16(value: &DeValue<'_>) -> Result<u16, Label> {
    let text = value.as_str().filter(|text| text.len() == 4);
    text.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|text| u16::from_str_radix(text, 16).ok())
        .ok_or_else(|| "expected four hexadecimal digits, as in \"6d5a\"".to_owned())
}

/// An absolute path.
pub(super) fn absolute_path(value: &DeValue<'_>) -> Result<PathBuf, Label> {
    let path = file_path(value)?;
    if path.is_absolute() { Ok(path) } else { Err("expected an absolute path".to_owned()) }
}

/// The path of a Unix socket: absolute and within the 107 bytes that the kernel takes (unix(7)).
pub(super) fn socket_path(value: &DeValue<'_>) -> Result<PathBuf, Label> {
    let path = absolute_path(value)?;
    if path.as_os_str().len() <= 107 {
        return Ok(path);
    }
    Err("the path of a socket is at most 107 bytes long".to_owned())
}

/// A path, from the working directory when it is not absolute.
pub(super) fn file_path(value: &DeValue<'_>) -> Result<PathBuf, Label> {
    match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains('\0') => Ok(text.into()),
        Some(_) | None => Err("expected a path".to_owned()),
    }
}

/// Anything that is written as a string and has a parser of its own.
pub(super) fn parsed<T>(wanted: &'static str) -> impl Fn(&DeValue<'_>) -> Result<T, Label>
where
    T: FromStr,
{
    move |value| {
        value
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| format!("expected {wanted}"))
    }
}

/// A name.
pub(super) fn name(value: &DeValue<'_>) -> Result<super::Name, Label> {
    let text = value.as_str().ok_or_else(|| super::name::NameError.to_string())?;
    text.parse().map_err(|error: super::name::NameError| error.to_string())
}

/// The address of a router on a connected network, as in "10.0.1.1/24".
pub(super) fn interface_address(value: &DeValue<'_>) -> Result<IpNet, Label> {
    let net: IpNet = parsed("an address with its prefix length, as in \"10.0.1.1/24\"")(value)?;
    host_problem(net.addr(), &net).map_or(Ok(net), |problem| Err(problem.to_owned()))
}

/// The address of a next hop.
pub(super) fn next_hop(value: &DeValue<'_>) -> Result<IpAddr, Label> {
    let address: IpAddr = parsed("the address of a router, as in \"10.0.1.254\"")(value)?;
    let alone = IpNet::from(address);
    host_problem(address, &alone).map_or(Ok(address), |problem| Err(problem.to_owned()))
}

/// A network without host bits.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<IpNet, Label> {
    let net: IpNet = parsed("a prefix, as in \"10.1.0.0/16\" or \"2001:db8::/32\"")(value)?;
    if net.addr() != net.network() {
        return Err(format!("bits are set behind the prefix; did you mean \"{}\"?", net.trunc()));
    }
    if net.addr().is_multicast() {
        return Err("packets to groups are not forwarded: leave it out".to_owned());
    }
    Ok(net)
}

/// Why no host can have this address on that network (RFC 1122 section 3.2.1.3, RFC 4291
/// section 2.7), if so.
pub(super) fn host_problem(address: IpAddr, net: &IpNet) -> Option<&'static str> {
    if address.is_multicast() {
        return Some("a multicast address is no host");
    }
    if address.is_unspecified() {
        return Some("the unspecified address is no host");
    }
    if address.is_loopback() {
        return Some("a loopback address is never on a network");
    }
    match (address, net) {
        (IpAddr::V4(address), _) if address.octets()[0] >= 240 => {
            Some("addresses from 240.0.0.0 on are reserved (RFC 1112 section 4)")
        }
        (IpAddr::V4(address), IpNet::V4(net)) if net.prefix_len() < 31 => {
            if address == net.network() {
                return Some("this is the network itself, not a host of it");
            }
            (address == net.broadcast()).then_some("this is the network's broadcast address")
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "ns" => Some(Duration::from_nanos(number)),
        "us" | "\u{b5}s" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((digits(number)?, unit.trim_start_matches(' ')))
}

/// A decimal number of at most 18 digits, without a sign.
fn digits(text: &str) -> Option<u64> {
    let plain = (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(text: &str, parse: impl Fn(&DeValue<'_>) -> Result<T, Label>) -> Result<T, Label> {
        parse(DeValue::parse(text).expect("TOML").get_ref())
    }

    #[test]
    fn durations_have_a_unit_and_bounds() {
        let parse = duration(Duration::from_millis(1)..=Duration::from_secs(7200));
        for (text, millis) in [("'1ms'", 1), ("'250 ms'", 250), ("'2s'", 2000), ("'1h'", 3_600_000)]
        {
            assert_eq!(read(text, &parse), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(read("'1000us'", &parse), Ok(Duration::from_millis(1)));
        assert_eq!(read("'3m'", &parse), Ok(Duration::from_secs(180)));
        for text in ["5", "'5'", "''", "'ms'", "'-5ms'", "'5 parsecs'", "'999us'", "'3h'"] {
            let label = read(text, &parse).unwrap_err();
            assert_eq!(label, "expected a duration from \"1ms\" to \"7200s\", as in \"250ms\"");
        }
        assert!(read("'18446744073709551615h'", &parse).is_err());
        assert!(read("'999999999999999999h'", &parse).is_err());
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        let parse = size(1..=1 << 40);
        assert_eq!(read("'64MiB'", &parse), Ok(64 << 20));
        assert_eq!(read("2048", &parse), Ok(2048));
        assert_eq!(read("'1GiB'", &parse), Ok(1 << 30));
        for text in ["'64MB'", "-1", "0", "'0B'", "'64'", "1.5", "'999999999999999999GiB'"] {
            assert!(read(text, &parse).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_checked_against_their_bounds_and_powers_of_two_suggest_neighbours() {
        assert_eq!(read("0x10", count(1..=16_u8)), Ok(16));
        let label = read("17", count(1..=16_u8)).unwrap_err();
        assert_eq!(label, "expected a whole number from 1 to 16");
        for text in ["0", "-1", "'1'", "1.0", "256", "99999999999999999999"] {
            assert!(read(text, count(1..=16_u8)).is_err(), "{text}");
        }
        assert_eq!(read("4096", power_of_two(64..=65536)), Ok(4096));
        let label = read("5000", power_of_two(64..=65536)).unwrap_err();
        assert_eq!(label, "expected a power of two, such as 4096 or 8192");
    }

    #[test]
    fn words_keys_and_percentages_say_what_they_accept() {
        let parse = word(&[("on", true), ("off", false)]);
        assert_eq!(read("'off'", parse), Ok(false));
        let parse = word(&[("on", true), ("off", false)]);
        assert_eq!(read("'of'", parse).unwrap_err(), "expected \"on\" or \"off\"");
        assert_eq!(read("'6D5a'", hex16), Ok(0x6d5a));
        for text in ["'+d5a'", "'6d5'", "0x6d5a", "'6d5az'"] {
            assert!(read(text, hex16).is_err(), "{text}");
        }
        assert_eq!(read("'100%'", percent), Ok(100));
        for text in ["'0%'", "'101%'", "50", "'50'", "'+5%'", "'%'"] {
            assert!(read(text, percent).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_those_of_hosts_and_prefixes_have_no_host_bits() {
        assert!(read("'10.0.1.1/24'", interface_address).is_ok());
        assert!(read("'10.0.1.0/31'", interface_address).is_ok());
        assert!(read("'fd00:1::1/64'", interface_address).is_ok());
        for text in [
            "'10.0.1.1'",
            "'10.0.1.0/24'",
            "'10.0.1.255/24'",
            "'224.0.0.1/24'",
            "'0.0.0.0/8'",
            "'127.0.0.1/8'",
            "'::/64'",
            "'ff02::1/64'",
            "'10.0.1.1/33'",
            "'255.255.255.255/32'",
        ] {
            assert!(read(text, interface_address).is_err(), "{text}");
        }
        assert!(read("'10.1.0.0/16'", prefix).is_ok());
        assert!(read("'0.0.0.0/0'", prefix).is_ok());
        let label = read("'10.1.2.0/16'", prefix).unwrap_err();
        assert_eq!(label, "bits are set behind the prefix; did you mean \"10.1.0.0/16\"?");
        for groups in ["'224.0.0.0/4'", "'239.1.1.1/32'", "'ff02::/16'"] {
            assert!(read(groups, prefix).unwrap_err().contains("groups"), "{groups}");
        }
        assert!(read("'10.0.1.254'", next_hop).is_ok());
        assert!(read("'255.255.255.255'", next_hop).is_err());
    }

    #[test]
    fn socket_paths_are_absolute_and_fit_the_kernels_limit() {
        assert!(read("'/run/weir/dataplane.sock'", socket_path).is_ok());
        assert!(read("'weir.sock'", socket_path).is_err());
        let long = format!("'/{}'", "a".repeat(107));
        assert_eq!(
            read(&long, socket_path).unwrap_err(),
            "the path of a socket is at most 107 bytes long"
        );
        assert!(read("''", file_path).is_err());
        assert!(read("\"a\\u0000b\"", file_path).is_err());
    }
}
