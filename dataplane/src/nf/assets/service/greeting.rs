//! Protocols that begin with a line of text, mostly of the server.

use super::{Found, Payload};
use crate::nf::assets::banner;

/// Mail servers that greet with their names, among other words.
const MAILBOXES: [&str; 8] =
    ["Dovecot", "Cyrus", "Courier", "Microsoft", "Zimbra", "Gimap", "Gpop", "Qpopper"];

/// SSH, with the software and its comment (RFC 4253, section 4.2).
pub(super) fn ssh(payload: &Payload<'_>) -> Option<Found> {
    let line = line(payload.bytes)?.strip_prefix(b"SSH-")?;
    let dash = line.iter().position(|byte| *byte == b'-')?;
    let version = &line[..dash];
    if version.is_empty() || !version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return None;
    }
    let software = line[dash + 1..].trim_ascii();
    (!software.is_empty()).then(|| Found::either("ssh", software))
}

/// SMTP and FTP, which greet alike (RFC 5321, section 4.2; RFC 959, section 4.2). What is left is
/// told by the port.
pub(super) fn mail_or_files(payload: &Payload<'_>) -> Option<Found> {
    let line = line(payload.bytes)?;
    if let Some(name) = line.strip_prefix(b"EHLO ").or_else(|| line.strip_prefix(b"HELO ")) {
        return (!name.trim_ascii().is_empty()).then(|| Found::client("smtp", b""));
    }
    let said = line.strip_prefix(b"220 ").or_else(|| line.strip_prefix(b"220-"))?;
    let all: Vec<_> = words(said).take(WORDS_MAX).collect();
    let has = |what: &str| {
        let what = what.as_bytes();
        let is_it =
            |word: &&[u8]| word.windows(what.len()).any(|part| part.eq_ignore_ascii_case(what));
        // Hosts are called after protocols too.
        let named = all.iter().position(|word| is_it(word) && !is_host(word));
        named.or_else(|| all.iter().position(is_it))
    };
    if let Some(place) = has("SMTP") {
        let product = product(&all[place + 1..]);
        return Some(Found::server("smtp", &on_system(product, behind(&all, place))));
    }
    if let Some(place) = has("FTP") {
        let product = product(&all[place..]);
        return Some(Found::server("ftp", &on_system(product, behind(&all, place))));
    }
    match payload.ports.0 {
        21 if has("FileZilla").is_some() => Some(Found::server("ftp FileZilla", b"")),
        21 => Some(Found::server("ftp", b"")),
        25 | 465 | 587 => Some(Found::server("smtp", b"")),
        _ => None,
    }
}

/// POP3 and IMAP (RFC 1939, section 4; RFC 9051, section 7.1).
pub(super) fn mailbox(payload: &Payload<'_>) -> Option<Found> {
    let line = line(payload.bytes)?;
    let said = |prefix: &str| line.strip_prefix(prefix.as_bytes());
    let (protocol, said) = if let Some(said) = said("+OK ") {
        ("pop3", said)
    } else {
        ("imap", said("* OK ").or_else(|| said("* PREAUTH "))?)
    };
    let all: Vec<_> = words(said).take(WORDS_MAX).collect();
    let known = all.iter().enumerate().find_map(|(place, word)| {
        let known = MAILBOXES.iter().find(|name| word.eq_ignore_ascii_case(name.as_bytes()));
        known.map(|name| (place, *name))
    });
    let is_pop = words(said).any(|word| word.eq_ignore_ascii_case(b"POP3"));
    // Others answer with a plus too.
    let is_known = known.is_some() || is_pop || payload.ports.0 == 110;
    if protocol != "imap" && !is_known {
        return None;
    }
    let (about, product) = known.map_or((&all[..], ""), |(place, name)| (&all[place + 1..], name));
    Some(Found::server(protocol, &on_system(product.into(), about)))
}

/// NNTP (RFC 3977, section 5.1).
pub(super) fn news(payload: &Payload<'_>) -> Option<Found> {
    let line = line(payload.bytes)?;
    let said = line.strip_prefix(b"200 ").or_else(|| line.strip_prefix(b"201 "))?;
    let is_news = words(said).any(|word| word.starts_with(b"NNTP") || word.starts_with(b"NNRP"));
    is_news.then(|| Found::server("nntp", b""))
}

/// The greeting of AMQP, which is the client's (AMQP 0-9-1, section 4.2.2).
pub(super) fn hello(payload: &Payload<'_>) -> Option<Found> {
    let version = payload.bytes.strip_prefix(b"AMQP").filter(|version| version.len() == 4)?;
    (version[0] <= 3).then(|| Found::client("amqp", b""))
}

/// rsync, whose ends greet alike.
pub(super) fn remote_copy(payload: &Payload<'_>) -> Option<Found> {
    let version = line(payload.bytes)?.strip_prefix(b"@RSYNCD: ")?;
    let version = words(version).next()?;
    version.first().is_some_and(u8::is_ascii_digit).then(|| Found::either("rsync", version))
}

/// BitTorrent, whose ends greet alike (BEP 3).
pub(super) fn peer(payload: &Payload<'_>) -> Option<Found> {
    payload.bytes.starts_with(b"\x13BitTorrent protocol").then(|| Found::either("bittorrent", b""))
}

/// Telnet: the options that one end offers or asks for (RFC 854).
pub(super) fn terminal(payload: &Payload<'_>) -> Option<Found> {
    let [0xff, 0xfb..=0xfe, option, rest @ ..] = payload.bytes else { return None };
    let goes_on = rest.is_empty() || rest[0] == 0xff;
    (*option < 50 && goes_on).then(|| Found::either("telnet", b""))
}

/// Words that are looked at, at most.
const WORDS_MAX: usize = 24;

/// The first line, if it is text; of one that does not end in the packet what there is.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let line = bytes.split(|byte| *byte == b'\n').next()?.trim_ascii_end();
    let is_text = |byte: &u8| *byte >= b' ' || *byte == b'\t';
    (!line.is_empty() && line.iter().all(is_text)).then_some(line)
}

/// Words without what stands around them.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = line.split(|byte| byte.is_ascii_whitespace());
    let around = |byte: &u8| b"()[]<>;,\"".contains(byte);
    words.filter_map(move |word| {
        let begin = word.iter().position(|byte| !around(byte))?;
        let end = word.iter().rposition(|byte| !around(byte))?;
        Some(&word[begin..=end])
    })
}

/// Whether a word is the name of a host, or of a mailbox or a session at one: what those are called
/// after tells nothing.
fn is_host(word: &[u8]) -> bool {
    let last = word.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let is_name = !last.is_empty() && last.iter().all(u8::is_ascii_alphabetic);
    word.contains(&b'@') || (word.contains(&b'.') && is_name)
}

/// The words of a greeting behind that which names the protocol, as in front of it the host may
/// stand, with the one maker that stands there too: `a Microsoft ESMTP MAIL Service`.
fn behind<'a, 'b>(all: &'a [&'b [u8]], place: usize) -> &'a [&'b [u8]] {
    let is_made = all[..place].last().is_some_and(|word| *word == b"Microsoft");
    &all[if is_made { place - 1 } else { place + 1 }..]
}

/// A product with the word about it that tells the system, if another one does.
fn on_system(product: Vec<u8>, about: &[&[u8]]) -> Vec<u8> {
    let about: Vec<_> = about.iter().copied().filter(|word| !is_host(word)).collect();
    match banner::find(&about.join(&b' ')).filter(|_| banner::find(&product).is_none()) {
        Some(word) => [&product[..], word.text().as_bytes()].join(&b' '),
        None => product,
    }
}

/// The first word, with the version if one follows, unless it is that of any server or the day:
/// the name of a session or the time would make a new name each time.
fn product(words: &[&[u8]]) -> Vec<u8> {
    const OTHERS: [&[u8]; 9] =
        [b"FTP", b"Service", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    let is_name = |word: &&&[u8]| {
        let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'-';
        word.iter().all(is_letter) && !OTHERS.iter().any(|other| word.eq_ignore_ascii_case(other))
    };
    let is_version =
        |word: &&&[u8]| word.first().is_some_and(u8::is_ascii_digit) && word.contains(&b'.');
    let Some(name) = words.first().filter(is_name) else { return Vec::new() };
    let version = words.get(1).filter(is_version);
    [Some(name), version].into_iter().flatten().copied().collect::<Vec<_>>().join(&b' ')
}
