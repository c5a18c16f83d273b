//! Finds everything that is wrong with the sidecar's tables of a configuration file.

use std::{fs::File, io::Read as _, ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use super::{
    Config, Control, PEERS_MAX, nfs,
    report::{ConfigError, Fault, Faults},
};

/// Top-level tables of the file that the data plane reads.
const DATAPLANE_TABLES: [&str; 18] = [
    "node",
    "dataplane",
    "idle",
    "worker",
    "memory",
    "steering",
    "flow_table",
    "route_table",
    "moves",
    "shares",
    "events",
    "neighbour",
    "nf",
    "icmp",
    "port",
    "route",
    "policy_route",
    "instance",
];
const CONTROL_KEYS: [&str; 7] =
    ["socket", "dataplane_socket", "store", "listen", "tls", "nf", "peer"];
const NF_KEYS: [&str; 4] = ["name", "socket", "leg", "translates"];
const LEG_KEYS: [&str; 4] = ["name", "from", "via", "port"];
const PEER_KEYS: [&str; 4] = ["name", "address", "identity", "brings"];
const TLS_KEYS: [&str; 3] = ["ca", "cert", "key"];
pub(super) const SCALING_KEYS: [&str; 10] =
    ["auto", "min", "max", "high", "low", "target", "dwell", "cool_down", "interval", "window"];

/// Longest file, in bytes.
const FILE_MAX: usize = 16 << 20;

pub(super) fn read(path: &Path) -> Result<Config, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One more than is accepted, so that a longer file is refused rather than cut.
    file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let name = path.display().to_string();
    if bytes.len() > FILE_MAX {
        let title = format!("the file is longer than {FILE_MAX} bytes");
        return Err(refuse("", &name, Fault::new(0..0, title, "no more is read")));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &name),
        Err(error) => {
            let at = error.valid_up_to();
            let fault = Fault::new(at..at + 1, "the file is not UTF-8", "from here");
            Err(refuse(&String::from_utf8_lossy(&bytes), &name, fault))
        }
    }
}

pub(super) fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
    let mut faults = Vec::new();
    let config = check(text, &mut faults);
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(ConfigError::Wrong(Faults::new(faults, text, name))),
    }
}

fn refuse(text: &str, name: &str, fault: Fault) -> ConfigError {
    ConfigError::Wrong(Faults::new(vec![fault], text, name))
}

fn check(text: &str, faults: &mut Vec<Fault>) -> Option<Config> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let span = |error: &toml::de::Error| error.span().unwrap_or(0..0);
        faults.extend(errors.iter().map(|error| Fault::new(span(error), error.message(), "")));
        return None;
    }
    let root = root.get_ref();
    let places = Place::all(root);
    for place in &places {
        place.unknown_keys(faults);
    }
    let config = values(text, &places, faults)?;
    if !faults.is_empty() {
        // What follows from a key that was not read would be no fault of its own.
        return None;
    }
    if let Some(listen) = config.control.listen
        && config.control.tls.is_none()
    {
        let title = format!("listening on {listen} needs mutual TLS, on loopback too");
        let fix = "add a [control.tls] table with ca, cert and key; `weir pki init` and \
                   `weir pki issue` make them";
        let span = table(root, "control").map_or(0..0, |control| key_span(control, "listen"));
        faults.push(Fault::new(span, title, "no certificates").fix(fix));
    }
    let tables = |key| table(root, "control").map(|control| tables(control, key));
    nfs::check(&config.control, &tables("nf").unwrap_or_default(), &ports(root), faults);
    check_peers(&config.control, &tables("peer").unwrap_or_default(), faults);
    if let Some(scaling) = table(root, "scaling") {
        for (key, why) in config.scaling.faults() {
            faults.push(policy_fault(scaling, key, &why));
        }
        if let Some(most) = instances_max(root).filter(|most| i64::from(config.scaling.max) > *most)
        {
            let why = format!("must be at most instances_max of [dataplane], which is {most}");
            faults.push(policy_fault(scaling, "max", &why));
        }
    }
    Some(config)
}

/// A table that the sidecar reads keys of.
struct Place<'t, 'i> {
    title: &'static str,
    table: &'t DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'t, 'i> Place<'t, 'i> {
    /// Those that the file has, the inner ones first.
    fn all(root: &'t DeTable<'i>) -> Vec<Self> {
        let control = table(root, "control");
        let tls = control.and_then(|control| table(control, "tls"));
        let known = DATAPLANE_TABLES.iter().chain(&["control", "scaling"]).copied();
        let mut places = vec![Self { title: "the file", table: root, known: known.collect() }];
        for (title, table, known) in [
            ("[control]", control, &CONTROL_KEYS[..]),
            ("[control.tls]", tls, &TLS_KEYS[..]),
            ("[scaling]", table(root, "scaling"), &SCALING_KEYS[..]),
        ] {
            places.extend(table.map(|table| Self { title, table, known: known.to_vec() }));
        }
        for (key, title, known) in
            [("nf", "[[control.nf]]", &NF_KEYS[..]), ("peer", "[[control.peer]]", &PEER_KEYS[..])]
        {
            let all = control.map(|control| tables(control, key)).unwrap_or_default();
            let place = |table| Self { title, table, known: known.to_vec() };
            places.extend(all.iter().copied().map(place));
            let legs = all.into_iter().flat_map(|table| tables(table, "leg"));
            let place =
                |table| Self { title: "[[control.nf.leg]]", table, known: LEG_KEYS.to_vec() };
            places.extend(legs.map(place));
        }
        places.reverse();
        places
    }

    fn unknown_keys(&self, faults: &mut Vec<Fault>) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let title = match self.title {
                "the file" => format!("unknown table {name}"),
                place => format!("unknown key {name} in {place}"),
            };
            let fault = Fault::new(key.span(), title, "nothing reads this");
            faults.push(fault.fix(suggestion(name, &self.known)));
        }
    }
}

/// "Did you mean", or the words that may stand there.
pub(super) fn suggestion(written: &str, known: &[&str]) -> String {
    let likeness = |word: &str| strsim::normalized_damerau_levenshtein(written, word);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best {
        Some(best) if likeness(best) >= 0.6 => format!("did you mean `{best}`?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// Reads the values. The reader stops at the first that is bad, so that one is blanked out and the
/// rest read again, in as many rounds as there are bad values.
fn values(text: &str, places: &[Place<'_, '_>], faults: &mut Vec<Fault>) -> Option<Config> {
    let mut left = text.to_owned();
    loop {
        let error = match toml::from_str(&left) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let (fault, entry) = bad_value(&error, places);
        faults.push(fault);
        left.replace_range(entry.clone()?, &" ".repeat(entry?.len()));
        // As when a dotted key has lost its last part.
        DeTable::parse(&left).ok()?;
    }
}

/// A value of the wrong kind with the place of its entry, or a table that lacks a key.
fn bad_value(error: &toml::de::Error, places: &[Place<'_, '_>]) -> (Fault, Option<Range<usize>>) {
    let span = error.span().unwrap_or(0..0);
    let why = error.message().trim_end();
    let missing = why.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    if let Some(key) = missing {
        let lacks =
            |place: &&Place<'_, '_>| place.known.contains(&key) && !place.table.contains_key(key);
        let place = places.iter().find(lacks).map_or("the file", |place| place.title);
        let title = format!("missing key {key} in {place}");
        return (Fault::new(span, title, &format!("this table needs {key}")), None);
    }
    let holds = |value: &Range<usize>| value.start <= span.start && span.end <= value.end;
    let found = places.iter().find_map(|place| {
        let mut entries = place.table.iter();
        let (key, value) = entries.find(|(_, value)| holds(&value.span()))?;
        Some((key.get_ref(), place.title, key.span().start..value.span().end))
    });
    match found {
        Some((key, place, entry)) => {
            (Fault::new(span, format!("bad value of {key} in {place}"), why), Some(entry))
        }
        None => (Fault::new(span, why, ""), None),
    }
}

/// A value that does not fit the others, where it stands, or where the other end of what it must
/// fit stands when it is left out.
fn policy_fault(scaling: &DeTable<'_>, key: &'static str, why: &str) -> Fault {
    let others: &[&str] = match key {
        "target" => &["low", "high"],
        "max" => &["min"],
        "window" => &["interval"],
        _ => &[],
    };
    let title = format!("{key} {why}");
    if scaling.contains_key(key) {
        return Fault::new(key_span(scaling, key), title, "does not fit");
    }
    let span = others.iter().find(|other| scaling.contains_key(**other));
    let span = span.map_or(0..0, |other| key_span(scaling, other));
    let fix = format!("{key} is left out and has its default: set it in [scaling]");
    Fault::new(span, title, "does not fit").fix(fix)
}

/// The names of the ports of the data plane of the same file.
fn ports<'t>(root: &'t DeTable<'_>) -> Vec<&'t str> {
    let ports = tables(root, "port").into_iter();
    let names = ports.filter_map(|port| port.get("name").map(|name| name.get_ref()));
    names
        .filter_map(|name| if let DeValue::String(name) = name { Some(&**name) } else { None })
        .collect()
}

/// How many instances the data plane of the same file has room for, if it says so: that it is a sound
/// number is for the data plane to check.
fn instances_max(root: &DeTable<'_>) -> Option<i64> {
    match table(root, "dataplane")?.get("instances_max")?.get_ref() {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

/// The tables of an array in a table.
pub(super) fn tables<'t, 'i>(control: &'t DeTable<'i>, key: &str) -> Vec<&'t DeTable<'i>> {
    let Some(DeValue::Array(all)) = control.get(key).map(|value| value.get_ref()) else {
        return Vec::new();
    };
    let table = |value: &'t toml::Spanned<DeValue<'i>>| match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    };
    all.iter().filter_map(table).collect()
}

/// Whether it can be a name.
pub(crate) fn is_word(name: &str) -> bool {
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(may_stand)
}

pub(super) const WORD: &str = "use 1 to 64 letters, digits, `-`, `_` and `.`";

/// Peers have names of their own, addresses, and certificates to be reached with.
fn check_peers(control: &Control, tables: &[&DeTable<'_>], faults: &mut Vec<Fault>) {
    let peers = &control.peer;
    for (place, (peer, table)) in peers.iter().zip(tables).enumerate() {
        let span = key_span(table, "name");
        if !is_word(&peer.name) || ["nf", "instance"].contains(&peer.name.as_str()) {
            let title = format!("{:?} can not be the name of a node", peer.name);
            let fix = format!("{WORD}; `nf/NAME` and `instance/NAME` are ends of this node");
            faults.push(Fault::new(span.clone(), title, "not a name").fix(fix));
        } else if peers[..place].iter().any(|other| other.name == peer.name) {
            let title = format!("two nodes are called {}", peer.name);
            faults.push(Fault::new(span.clone(), title, "the second"));
        }
        if !is_word(peer.identity()) {
            let title = format!("{:?} can not be the identity of a node", peer.identity());
            faults.push(Fault::new(key_span(table, "identity"), title, "not a name").fix(WORD));
        } else if peers[..place].iter().any(|other| other.identity() == peer.identity()) {
            let title = format!("two nodes have the identity {}", peer.identity());
            faults.push(Fault::new(span.clone(), title, "the second"));
        }
        if peer.host().is_none() {
            let title = format!("{:?} is no address of a node", peer.address);
            let fault = Fault::new(key_span(table, "address"), title, "not HOST:PORT");
            faults.push(fault.fix("write the host and the port of its `listen`"));
        }
        if control.tls.is_none() {
            let fix = "add a [control.tls] table; `weir pki issue --role node` makes the files";
            let fault = Fault::new(span.clone(), "a node is reached by mutual TLS only", "a node");
            faults.push(fault.fix(fix));
        }
        if place == PEERS_MAX {
            faults.push(Fault::new(span, format!("more than {PEERS_MAX} nodes"), "one too many"));
        }
    }
}

fn table<'t, 'i>(parent: &'t DeTable<'i>, key: &str) -> Option<&'t DeTable<'i>> {
    match parent.get(key).map(|value| value.get_ref()) {
        Some(DeValue::Table(table)) => Some(table),
        _ => None,
    }
}

/// Where a key of a table stands; the start of the file when it is not written there.
pub(super) fn key_span(table: &DeTable<'_>, key: &str) -> Range<usize> {
    table.get_key_value(key).map_or(0..0, |(key, _)| key.span())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::config) fn faults(text: &str) -> Vec<(usize, String, String)> {
        let error = parse(text, "weir.toml").unwrap_err();
        error.faults().iter().map(|f| (f.line, f.message.clone(), f.fix.clone())).collect()
    }

    #[test]
    fn an_empty_file_takes_the_defaults_and_other_tables_are_the_data_planes() {
        assert_eq!(parse("", "weir.toml").unwrap(), Config::default());
        let shared = "[node]\nname = 'a'\n[[port]]\nname = 'p0'\n[scaling]\nmax = 8\n";
        assert_eq!(parse(shared, "weir.toml").unwrap().scaling.max, 8);
        let as_many = "[dataplane]\ninstances_max = 8\n[scaling]\nmax = 8\n";
        assert!(parse(as_many, "weir.toml").is_ok());
    }

    #[test]
    fn unknown_keys_are_refused_with_line_and_suggestion_all_at_once() {
        let text = "[control]\nsockt = '/x'\n\n[scaling]\ncooldown = '1s'\nrate = 1\n[contrl]\n";
        let found = faults(text);
        assert_eq!(found.iter().map(|fault| fault.0).collect::<Vec<_>>(), [2, 5, 6, 7]);
        assert_eq!(found[0].1, "unknown key sockt in [control]");
        assert_eq!(found[0].2, "did you mean `socket`?");
        assert_eq!(found[1].2, "did you mean `cool_down`?");
        assert!(found[2].2.starts_with("known here: auto, "), "{}", found[2].2);
        assert_eq!(found[3].2, "did you mean `control`?");
    }

    #[test]
    fn the_message_shows_the_line_with_a_caret() {
        let text = "[control]\nsockt = '/x'\n";
        let shown = parse(text, "weir.toml").unwrap_err().to_string();
        assert!(shown.contains("weir.toml:2:1") && shown.contains("sockt = '/x'"), "{shown}");
        assert!(shown.contains("^^^^^") && shown.contains("did you mean `socket`?"), "{shown}");
    }

    #[test]
    fn faults_are_shown_as_the_data_plane_shows_them() {
        let shown = parse("[scaling]\nmin = 'one'\n", "weir.toml").unwrap_err().to_string();
        let expected = "\
error: bad value of min in [scaling]
 --> weir.toml:2:7
  |
2 | min = 'one'
  |       ^^^^^ invalid type: string \"one\", expected u32";
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_follows_from_another_fault_is_not_reported_and_the_rest_stands_where_it_is_set() {
        let found = faults("[scaling]\nhihg = 0.9\ntarget = 0.85\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].0, &*found[0].2), (2, "did you mean `high`?"));
        let found = faults("[scaling]\nauto = true\nlow = 0.7\n");
        assert_eq!((found.len(), found[0].0), (1, 3), "{found:?}");
        assert!(found[0].1.contains("target must lie between low (0.7)"), "{found:?}");
        assert!(found[0].2.contains("target is left out"), "{found:?}");
    }

    #[test]
    fn nodes_have_names_addresses_and_identities_of_their_own_and_need_certificates() {
        let tls = "[control.tls]\nca = 'a'\ncert = 'b'\nkey = 'c'\n";
        let peer = |name: &str, rest: &str| format!("[[control.peer]]\nname = '{name}'\n{rest}\n");
        let address = "address = 'edge:7443'";
        let two = peer("one", address) + &peer("two", "address = '[::1]:1'\nidentity = 'edge-2'");
        let found = parse(&(tls.to_owned() + &two), "weir.toml").unwrap().control.peer;
        let seen = |at: usize| (found[at].identity().to_owned(), found[at].host().unwrap());
        assert_eq!((seen(0), seen(1)), (("one".into(), "edge"), ("edge-2".into(), "::1")));
        let same = peer("one", address) + &peer("two", "address = 'a:1'\nidentity = 'one'");
        for (text, line, says) in [
            (peer("one", address), 2, "mutual TLS only"),
            (tls.to_owned() + &peer("nf", address), 6, "can not be the name"),
            (tls.to_owned() + &peer("one", "address = 'edge'"), 7, "no address"),
            (tls.to_owned() + &peer("one", "address = ':1'"), 7, "no address"),
            (tls.to_owned() + &peer("one", "address = 'edge:http'"), 7, "no address"),
            (tls.to_owned() + &peer("one", &format!("{address}\nidentity = ''")), 8, "identity"),
            (tls.to_owned() + &peer("one", address) + &peer("one", address), 9, "are called one"),
            (tls.to_owned() + &same, 9, "have the identity one"),
            (tls.to_owned() + &peer("one", ""), 5, "missing key address in [[control.peer]]"),
            (tls.to_owned() + &peer("one", "adress = 'x:1'"), 5, "adress in [[control.peer]]"),
        ] {
            let found = faults(&text);
            assert_eq!(found[0].0, line, "{text}: {found:?}");
            assert!(found.iter().any(|fault| fault.1.contains(says)), "{text}: {found:?}");
        }
        let many = (0..=PEERS_MAX).map(|number| peer(&number.to_string(), address));
        let many = tls.to_owned() + &many.collect::<String>();
        assert!(faults(&many)[0].1.contains("more than 16 nodes"));
    }

    #[test]
    fn every_bad_value_is_found() {
        let text = "[control]\nsocket = 1\ntls.ca = 2\n[scaling]\nmin = 'one'\nmax = 'two'\n";
        let lines: Vec<usize> = faults(text).iter().map(|fault| fault.0).collect();
        assert_eq!(lines[..2], [2, 3], "{lines:?}");
        let lines: Vec<usize> = faults(&text.replace("tls.ca", "# ")).iter().map(|f| f.0).collect();
        assert_eq!(lines, [2, 5, 6]);
    }

    #[test]
    fn wrong_values_are_refused_where_they_stand() {
        for (text, line, says) in [
            ("[scaling]\nmin = 'one'", 2, "bad value of min in [scaling]"),
            ("[scaling]\n\ndwell = '5 parsecs'", 3, "bad value of dwell in [scaling]"),
            ("[control]\ntls = 7", 2, "bad value of tls in [control]"),
            ("scaling = 7", 1, "bad value of scaling in the file"),
            ("[scaling]\nmin = 3\nmax = 2", 3, "max must be at least min"),
            ("[dataplane]\ninstances_max = 3\n[scaling]\nmax = 4", 4, "which is 3"),
            ("[dataplane]\ninstances_max = 0x3\n[scaling]\nmin = 1", 4, "which is 3"),
            ("[control]\nlisten = '0.0.0.0:7440'", 2, "needs mutual TLS"),
            ("[control]\nnf = [{name = 'a'}]", 2, "missing key socket in [[control.nf]]"),
            ("[[control.nf]]\nname = 'a b'\nsocket = 'x'", 2, "can not be the name"),
            ("[[control.nf]]\nname = 'a'\nsocket = 'x'\nport = 1", 4, "port in [[control.nf]]"),
            ("[control]\nlisten = '127.0.0.1:7440'", 2, "needs mutual TLS"),
            ("[control.tls]\nca = 'a'\ncert = 'b'", 1, "missing key key in [control.tls]"),
            ("[control\n", 1, ""),
        ] {
            let found = faults(text);
            assert_eq!(found[0].0, line, "{text}: {found:?}");
            assert!(found[0].1.contains(says), "{text}: {found:?}");
        }
    }
}
