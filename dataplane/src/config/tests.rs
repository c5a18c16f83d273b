//! The configuration as its reader meets it: defaults, every kind of error with its place, bad
//! files by the hundred.

mod functions;
mod nat;
mod policies;
mod ports;

use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_frame::{FrameSize, HugePages};

use super::*;
use crate::driver::{Idle, Poll};

const EXAMPLE: &str = include_str!("../../example.toml");
const PORT: &str = "[[port]]\nname = 'a'\nbackend = 'af_xdp'\ndevice = 'eth0'\n";

/// A machine with two cores and 4 GiB of memory, half of it free.
fn machine() -> Machine {
    let cores = [0, 1].into_iter().collect();
    Machine { cores, memory: Some(4 << 30), available: Some(2 << 30) }
}

/// The text with a port, which every file needs; it stands last, so that lines stay where they are.
fn with_port(text: &str) -> String {
    if text.contains("port]") { text.to_owned() } else { format!("{text}\n{PORT}") }
}

fn accept(text: &str) -> Config {
    match Config::parse("weir.toml", with_port(text).as_bytes(), &machine()) {
        Ok((config, _)) => config,
        Err(report) => panic!("refused:\n{report}"),
    }
}

fn refuse(text: &str) -> String {
    match Config::parse("weir.toml", with_port(text).as_bytes(), &machine()) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(report) => report.to_string(),
    }
}

/// Asserts that a file is refused with one error, at this line, with all of these words.
fn refuse_one(text: &str, line: usize, words: &[&str]) {
    let shown = refuse(text);
    assert_eq!(shown.matches("error:").count(), 1, "{shown}");
    assert!(shown.contains(&format!("--> weir.toml:{line}:")), "not at line {line}:\n{shown}");
    for word in words {
        assert!(shown.contains(word), "no {word:?} in:\n{shown}");
    }
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = accept("");
    assert_eq!(config.node().as_str(), "weir");
    let process = config.process();
    assert_eq!(process.socket, Path::new("/run/weir/dataplane.sock"));
    assert_eq!((process.poll, process.idle), (Poll::Adaptive, Idle::default()));
    assert_eq!((process.workers_max, process.instances_max, process.handover_ring), (8, 64, 512));
    assert_eq!(config.workers(), [Worker { core: None }]);
    assert_eq!(config.memory().frame_size, FrameSize::B2048);
    assert_eq!(config.memory().huge_pages, HugePages::Try);
    assert_eq!(config.flow_table().idle_timeout, Duration::from_secs(60));
    assert_eq!((config.moves().hold, config.moves().moves_max), (4096, 8));
    assert_eq!(config.instance().capacity_ns, 1_000_000_000);
    assert!(config.steering().key.is_none());
    assert!(config.routes().is_empty());
}

#[test]
fn the_example_is_accepted_without_warnings_and_shows_the_defaults() {
    let (example, warnings) =
        Config::parse("example.toml", EXAMPLE.as_bytes(), &machine()).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    let default = accept("");
    let settings = |config: &Config| {
        let Config { process, steering, flow_table, moves, neighbour, icmp, route_table, .. } =
            config;
        format!(
            "{process:?} {steering:?} {flow_table:?} {moves:?} {neighbour:?} {icmp:?} \
             {route_table:?} {:?} {:?}",
            config.instance, config.node
        )
    };
    assert_eq!(settings(&example), settings(&default));
    assert_eq!(example.workers(), [Worker { core: Some(0) }, Worker { core: Some(1) }]);
    let [left, right] = example.ports() else { panic!("two ports") };
    let right = format!("{:?}", right.backend).replace("eth1", "eth0");
    assert_eq!(format!("{:?}", left.backend), right);
    assert_eq!(example.routes()[0].port, 1);
}

/// The part of the example about network functions is a comment: without it there are none.
fn functions_of_the_example() -> String {
    let from = EXAMPLE.find("# [[nf]]").unwrap();
    let part = &EXAMPLE[from..from + EXAMPLE[from..].find("\n\n").unwrap()];
    part.lines()
        .map(|line| line.trim_start_matches("# ").trim_start_matches('#'))
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn functions_of_the_example_have_the_defaults() {
    let text = functions_of_the_example();
    let config = accept(&text);
    let [firewall, ids, assets, nat] = config.nfs() else { panic!("four functions") };
    assert_eq!(ids.logs.as_deref(), Some(Path::new("/var/log/weir")));
    assert_eq!(assets.logs, ids.logs);
    let defaults = "[[nf]]\nkind = 'firewall'\n\
                    rules = ['web: accept dst=10.0.2.0/24,proto=tcp,dport=80', 'rest: reject any']\n\
                    connections_max = 1000\nrate = 100\n[[nf]]\nkind = 'ids'\n\
                    [[nf]]\nkind = 'assets'\n[[nf]]\nkind = 'nat'\n\
                    [[nf.source]]\nfrom = '10.0.1.0/24'\nto = '0.0.0.0/0'\n\
                    pool = ['192.0.2.1', '192.0.2.8-192.0.2.11']\n\
                    [[nf.service]]\naddress = '192.0.2.1'\nproto = 'tcp'\nports = '8000-8009'\n\
                    backends = ['10.0.1.2:8000', '10.0.1.3:9000']\n";
    let shown = |nfs: &[Nf]| nfs.iter().map(|nf| format!("{:?}", nf.function)).collect::<Vec<_>>();
    let all = [firewall.clone(), ids.clone(), assets.clone(), nat.clone()];
    assert_eq!(shown(accept(defaults).nfs()), shown(&all));
    assert!(accept("").nfs().is_empty());
}

#[test]
fn what_is_wrong_with_a_function_is_said_where_it_stands() {
    refuse_one("[[nf]]\nkind = 'nat64'\n", 2, &["\"ids\" or \"assets\" or \"nat\""]);
    refuse_one("[[nf]]\n", 1, &["missing key kind"]);
    refuse_one("[[nf]]\nkind = 'ids'\nrules = []\n", 3, &["key of the firewall"]);
    refuse_one("[[nf]]\nkind = 'firewall'\nlogs = '/x'\n", 3, &["key of the ids and the assets"]);
    refuse_one("[[nf]]\nkind = 'assets'\nscan_window = '9s'\n", 3, &["key of the ids"]);
    refuse_one("[[nf]]\nkind = 'ids'\nhosts_max = 9\n", 3, &["key of the assets"]);
    refuse_one("[[nf]]\nkind = 'assets'\nforget = '1s'\n", 3, &["forget"]);
    refuse_one(
        "[[nf]]\nkind = 'firewall'\nrules = ['a: pass any']\n",
        3,
        &["accept, drop or reject"],
    );
    let twice = "[[nf]]\nkind = 'firewall'\nrules = ['a: drop any', 'a: drop any']\n";
    refuse_one(twice, 3, &["two rules of the name a"]);
    refuse_one("[[nf]]\nkind = 'firewall'\nburst = 3\n", 3, &["burst without rate"]);
    refuse_one(
        "[[nf]]\nkind = 'ids'\n[[nf]]\nkind = 'ids'\n",
        3,
        &["a second [[nf]] of this kind"],
    );
    refuse_one("[[nf]]\nkind = 'ids'\nlogs = 'here'\n", 3, &["an absolute path"]);
    refuse_one("[[nf]]\nkind = 'ids'\nscan_treshold = 3\n", 3, &["did you mean `scan_threshold`?"]);
}

#[test]
fn frames_default_to_what_the_quotas_add_up_to_and_must_not_be_fewer() {
    let small = "[dataplane]\nworkers_max = 1\ninstances_max = 2\nhandover_ring = 64\n\
                 [events]\nbuffer_max = 50\n[moves]\nhold = 100\nmoves_max = 1\n\
                 [neighbour]\npark = 10\n";
    let port = format!("{PORT}rx_ring = 1024\nfill_ring = 512\ntx_ring = 128\n");
    let text = format!("{small}{port}");
    // 512 + 128 in rings, 64 handed over, 256 + 32 outside, 2 x 100 held, 2 x 50 kept, 10
    // parked, 1024 free.
    assert_eq!(accept(&text).memory().frames, 2326_u32.next_multiple_of(1024));
    assert_eq!(accept(&format!("{text}[memory]\nframes = 2326")).memory().frames, 2326);
    let words = ["2325 frames are fewer than the 2326", "raise frames in [memory] to 3072"];
    refuse_one(&format!("{text}[memory]\nframes = 2325"), 20, &words);
    let words = ["640 rings of port a", "200 held at both ends of 1 moves", "2326 in all"];
    refuse_one(&format!("{text}[memory]\nframes = 2325"), 20, &words);
    let all = "[dataplane]\nworkers_max = 16\nhandover_ring = 65536\n";
    assert!(refuse(all).contains("lower the rings and quotas below: 4194304 frames are the most"));
}

#[test]
fn a_hold_that_no_move_can_use_is_refused_with_the_reason() {
    assert_eq!(accept("[moves]\nhold = 65536\nmoves_max = 1\n").moves().hold, 65_536);
    let words = ["whole number from 1 to 65536", "has to hold more is undone"];
    refuse_one("[moves]\nhold = 65537\n", 2, &words);
}

#[test]
fn a_file_without_a_port_is_refused_with_an_example() {
    for text in ["", "[node]\nname = 'a'\n", "port = []\n"] {
        let shown = Config::parse("weir.toml", text.as_bytes(), &machine()).unwrap_err();
        let shown = shown.to_string();
        assert_eq!(shown.matches("error:").count(), 1, "{shown}");
        assert!(shown.contains("there is no [[port]]"), "{shown}");
        assert!(shown.contains("backend = \"af_xdp\""), "{shown}");
    }
    let shown = Config::parse("weir.toml", b"[[prot]]\n", &machine()).unwrap_err().to_string();
    assert!(shown.contains("did you mean `port`?") && !shown.contains("there is no"), "{shown}");
}

#[test]
fn bounds_that_ask_for_more_memory_than_there_is_are_refused() {
    let moves = "[moves]\nmoves_max = 256\n";
    let words =
        ["MiB of memory are asked for, the machine has 4096 MiB", "lower hold or moves_max"];
    refuse_one(moves, 2, &words);
    refuse_one(moves, 2, &["for the ends of 256 moves", "2097152 held at both ends of 256 moves"]);
    let text = with_port("[moves]\nmoves_max = 128\n");
    let (_, report) = Config::parse("weir.toml", text.as_bytes(), &machine()).unwrap();
    let shown = report.to_string();
    assert!(shown.starts_with("warning: ") && shown.contains("2048 MiB are free"), "{shown}");
    let words = ["the machine has 4096 MiB", "lower frames in [memory]"];
    refuse_one("[memory]\nframes = 4194304\n", 2, &words);
    let unknown = Machine { memory: None, available: None, ..machine() };
    assert!(Config::parse("weir.toml", with_port(moves).as_bytes(), &unknown).is_ok());
}

#[test]
fn a_route_table_too_small_for_the_routes_of_the_file_is_refused() {
    let port = format!("{PORT}addresses = ['10.0.1.1/24']\n");
    let route =
        |n| format!("[[route]]\nprefix = '10.9.{n}.0/26'\nvia = '10.0.1.{n}'\nport = 'a'\n");
    let routes: String = (2..22).map(route).collect();
    let text = |bound: &str| format!("[route_table]\n{bound}\n{port}{routes}");
    for (key, needed) in [("routes_max", 21), ("next_hops_max", 21), ("groups_max", 20)] {
        accept(&text(&format!("{key} = {needed}")));
        let title = format!(
            "16 {} are fewer than the {needed}",
            match key {
                "routes_max" => "routes",
                "next_hops_max" => "next hops",
                _ => "groups",
            }
        );
        let fix = format!("set {key} = {needed} in [route_table]");
        refuse_one(&text(&format!("{key} = 16")), 2, &[&title, &fix, "first that does not fit"]);
    }
    refuse_one(&text("next_hops_max = 1"), 2, &["weir.toml:2:17", "set next_hops_max = 21"]);
}

#[test]
fn only_keys_that_may_stand_in_a_table_are_suggested_and_only_the_root_is_reported() {
    let port = |backend: &str, line: &str| {
        format!("[[port]]\nname = 'a'\nbackend = '{backend}'\n{line}\n")
    };
    refuse_one(&port("af-xdp", "device = 'eth0'\nqueues = 2"), 3, &["\"af_xdp\" or \"pcap\""]);
    refuse_one("[[port]]\nname = 'a'\ndevice = 'eth0'\n", 1, &["missing key backend"]);
    let shown = refuse(&port("pcap", "rx = 'f'\ndevise = 'eth0'"));
    assert!(shown.contains("known here: name, backend, rx, tx, mac"), "{shown}");
    assert!(!shown.contains("queues") && !shown.contains("did you mean"), "{shown}");
    let shown = refuse(&port("dpdk", "rx = 'f'"));
    assert!(!shown.contains("memory"), "{shown}");
}

#[test]
fn every_error_shows_its_line_with_a_caret_and_what_to_do() {
    let shown = refuse("[dataplane]\npol = \"busy\"\n");
    let expected = "\
error: unknown key pol in [dataplane]
 --> weir.toml:2:1
  |
2 | pol = \"busy\"
  | ^^^ nothing reads this
  |
  = help: did you mean `poll`?";
    assert_eq!(shown, expected);
}

#[test]
fn unknown_keys_and_tables_are_refused_with_a_suggestion() {
    refuse_one("[memory]\nframe = 1024\n", 2, &["unknown key frame", "did you mean `frames`?"]);
    refuse_one("[moves]\nxyzzy = 1\n", 2, &["known here: hold, moves_max, step_timeout"]);
    refuse_one("[steerin]\n", 1, &["unknown table steerin", "did you mean `steering`?"]);
    refuse_one("prot = 1\n", 1, &["unknown table prot", "did you mean `port`?"]);
    refuse_one(&format!("{PORT}mty = 1500"), 5, &["[[port]]", "did you mean `mtu`?"]);
    refuse_one(
        "[[route]]\nprefix = '10.0.0.0/8'\nport = 'a'\nvai = 1\n[[port]]\nname='a'\nbackend='pcap'\nrx='f'",
        4,
        &["did you mean `via`?"],
    );
}

#[test]
fn tables_of_the_sidecar_are_left_to_it() {
    accept("[control]\nanything = 1\n[scaling]\nhigh = '80%'\n[control.tls]\nca = 'x'\n");
}

#[test]
fn all_errors_of_a_file_are_listed_in_the_order_of_its_lines() {
    let shown = refuse("[node]\nname = 'A'\n[idle]\nsleep_max = 5\n[moves]\nhold = 0\nhole = 0\n");
    let places: Vec<usize> =
        (1..=7).filter_map(|line| shown.find(&format!("weir.toml:{line}:"))).collect();
    assert_eq!(places.len(), 4, "{shown}");
    assert!(places.is_sorted(), "{shown}");
}

#[test]
fn a_line_that_is_no_toml_hides_only_what_would_follow_from_it() {
    let shown = refuse("[dataplane]\npoll =\n[memory]\nframez = 4096\n[[port]]\nname eth0\n");
    assert!(shown.contains("weir.toml:2:") && shown.contains("weir.toml:6:"), "{shown}");
    assert!(shown.contains("did you mean `frames`?"), "{shown}");
    assert!(!shown.contains("missing key"), "{shown}");
    assert!(!shown.contains("bad value of poll"), "{shown}");
}

#[test]
fn values_of_a_wrong_kind_or_out_of_bounds_are_refused() {
    for (line, words) in [
        ("[dataplane]\npoll = 'fast'", "expected \"adaptive\" or \"busy\""),
        ("[dataplane]\nsocket = 'weir.sock'", "expected an absolute path"),
        ("[dataplane]\nworkers_max = 17", "whole number from 1 to 16"),
        ("[dataplane]\ninstances_max = 251", "whole number from 1 to 250"),
        ("[dataplane]\nhandover_ring = 500", "such as 256 or 512"),
        ("[memory]\nframe_size = 3000", "expected 2048 or 4096"),
        ("[memory]\nhuge_pages = true", "expected \"try\" or \"off\""),
        ("[steering]\nkey = 'ffff'", "spreads flows over few buckets"),
        ("[steering]\nkey = 0x6d5a", "four hexadecimal digits"),
        ("[flow_table]\nidle_timeout = '5'", "as in \"250ms\""),
        ("[instance]\ncapacity = '0%'", "from \"1%\" to \"100%\""),
        ("[instance]\nname = 'R1'", "a name is 1 to 63 of a-z"),
        ("[node]\nname = 1", "a name is 1 to 63 of a-z"),
        ("[[worker]]\ncore = 7", "cores that it can run on: 0-1"),
    ] {
        refuse_one(line, 2, &[words]);
    }
    refuse_one("dataplane = 1", 1, &["dataplane has the wrong shape", "write [dataplane]"]);
    refuse_one("[port]\nname = 'a'", 1, &["port has the wrong shape", "write [[port]]"]);
    refuse_one("route = [1]", 1, &["route has the wrong shape", "write [[route]]"]);
    refuse_one(
        "[dataplane]\nworkers_max = 1\n[[worker]]\n[[worker]]",
        4,
        &["more than 1 [[worker]]"],
    );
    let idle = "[idle]\nyield_after = '2ms'\nsleep_after = '1ms'";
    refuse_one(idle, 1, &["sleep_after is shorter", "raise sleep_after to at least 2ms"]);
}

#[test]
fn ports_are_checked_one_by_one() {
    for (text, line, words) in [
        ("[[port]]\nbackend = 'pcap'\nrx = 'f'", 1, "missing key name in [[port]]"),
        ("[[port]]\nname = 'a'", 1, "missing key backend in [[port]]"),
        ("[[port]]\nname = 'a'\nbackend = 'dpdk'", 3, "expected \"af_xdp\" or \"pcap\""),
        ("[[port]]\nname = 'a'\nbackend = 'memory'", 3, "memory ports exist in tests only"),
        ("[[port]]\nname = 'a'\nbackend = 'af_xdp'", 1, "missing key device"),
        ("[[port]]\nname = 'a'\nbackend = 'pcap'", 1, "a pcap port without a file"),
        ("[[port]]\nname = 'a'\nbackend = 'pcap'\nrx = 'f'\ndevice = 'e'", 5, "device has no use"),
        (
            "[[port]]\nname = 'a'\nbackend = 'pcap'\nrx = 'f'\nmac = '03:00:00:00:00:01'",
            5,
            "one station",
        ),
        ("[[port]]\nname = 'a'\nbackend = 'af_xdp'\ndevice = 'a/b'", 4, "network interface"),
        ("[[port]]\nname = 'a'\nbackend = 'af_xdp'\ndevice = 'e'\nmac = 'x'", 5, "mac has no use"),
    ] {
        refuse_one(text, line, &[words]);
    }
    let with = |line: &str| format!("{PORT}{line}");
    refuse_one(&with("rx_ring = 5000"), 5, &["such as 4096 or 8192"]);
    refuse_one(&with("rx_ring = 1024\nfill_ring = 2048"), 1, &["raise rx_ring to 2048"]);
    refuse_one(&with("addresses = '10.0.0.1/8'"), 5, &["expected a list"]);
    refuse_one(&with("addresses = ['10.0.0.1/8', '10.0.0.0/8']"), 5, &["network itself"]);
    refuse_one(&with("mtu = 1200\naddresses = ['fd00::1/64']"), 5, &["at least 1280"]);
    refuse_one(&with("mtu = 3000"), 5, &["do not fit in a frame", "frame_size = 4096"]);
    accept(&format!("[memory]\nframe_size = '4KiB'\n{PORT}mtu = 3822"));
}

#[test]
fn names_devices_files_addresses_and_networks_are_used_once() {
    let two = |first: &str, second: &str| {
        format!(
            "[[port]]\nname = 'a'\nbackend = 'af_xdp'\ndevice = 'e0'\naddresses = [{first}]\n\
                 [[port]]\nname = 'b'\nbackend = 'af_xdp'\ndevice = 'e1'\naddresses = [{second}]\n"
        )
    };
    let good = two("'10.0.1.1/24'", "'10.0.2.1/24'");
    accept(&good);
    refuse_one(&good.replace("'b'", "'a'"), 7, &["port name a is used twice", "first here"]);
    refuse_one(&good.replace("e1", "e0"), 9, &["device e0 is used twice", "first here"]);
    refuse_one(&two("'10.0.1.1/24'", "'10.0.1.1/32'"), 10, &["address 10.0.1.1 is used twice"]);
    let overlap = two("'10.0.1.1/24'", "'10.0.2.1/16'");
    refuse_one(&overlap, 10, &["network 10.0.0.0/16 overlaps 10.0.1.0/24"]);
    accept(&two("'10.0.1.1/24', '10.0.1.2/24'", "'fd00::1/64'"));
    let pcap = "[[port]]\nname = 'a'\nbackend = 'pcap'\ntx = 'f'\n\
                [[port]]\nname = 'b'\nbackend = 'pcap'\ntx = 'f'\n";
    refuse_one(pcap, 5, &["tx file f is used twice"]);
}

#[test]
fn routes_lead_through_a_port_to_a_next_hop_on_its_network() {
    let port = format!("{PORT}addresses = ['10.0.1.1/24', 'fd00::1/64']\n");
    let with = |route: &str| format!("{port}[[route]]\n{route}\n");
    let config = accept(&with("prefix = '0.0.0.0/0'\nvia = '10.0.1.254'\nport = 'a'"));
    let expected =
        Route { prefix: "0.0.0.0/0".parse().unwrap(), via: Some([10, 0, 1, 254].into()), port: 0 };
    assert_eq!(config.routes(), [expected]);
    accept(&with("prefix = '2001:db8::/32'\nvia = 'fe80::1'\nport = 'a'"));
    accept(&with("prefix = '10.9.0.0/16'\nport = 'a'"));
    for (route, line, words) in [
        ("prefix = '10.9.0.0/16'", 6, "missing key port"),
        ("prefix = '10.9.1.0/16'\nport = 'a'", 7, "did you mean \"10.9.0.0/16\"?"),
        ("prefix = '10.9.0.0/16'\nport = 'b'", 8, "no port is called b"),
        (
            "prefix = '10.9.0.0/16'\nvia = '10.0.2.1'\nport = 'a'",
            8,
            "networks of port a: 10.0.1.0/24",
        ),
        ("prefix = '10.9.0.0/16'\nvia = '10.0.1.1'\nport = 'a'", 8, "this router itself"),
        ("prefix = '10.9.0.0/16'\nvia = '10.0.1.255'\nport = 'a'", 8, "broadcast address"),
        ("prefix = '10.9.0.0/16'\nvia = 'fd00::2'\nport = 'a'", 8, "another family"),
        ("prefix = '10.0.1.0/24'\nport = 'a'", 7, "10.0.1.0/24 is there twice"),
    ] {
        refuse_one(&with(route), line, &[words]);
    }
    let twice =
        with("prefix = '10.9.0.0/16'\nport = 'a'\n[[route]]\nprefix = '10.9.0.0/16'\nport = 'a'");
    refuse_one(&twice, 10, &["10.9.0.0/16 is there twice", "first here"]);
}

#[test]
fn two_workers_on_one_core_are_warned_about() {
    let text = with_port("[[worker]]\ncore = 1\n[[worker]]\ncore = 1\n");
    let (config, report) = Config::parse("weir.toml", text.as_bytes(), &machine()).unwrap();
    assert_eq!(config.workers().len(), 2);
    let shown = report.to_string();
    assert!(shown.starts_with("warning: two workers share core 1"), "{shown}");
    assert!(shown.contains("weir.toml:4:8") && shown.contains("pinned here first"), "{shown}");
}

#[test]
fn a_file_with_thousands_of_errors_shows_the_first_hundred() {
    let text: String = (0..5000).map(|n| format!("unknown{n} = 1\n")).collect();
    let report = Config::parse("weir.toml", text.as_bytes(), &machine()).unwrap_err();
    assert_eq!(report.len(), 5000);
    assert!(report.to_string().ends_with("and 4900 more"));
}

#[test]
fn a_file_that_is_too_long_or_not_text_is_refused() {
    let report = Config::parse("weir.toml", b"[node]\nname = '\xff'\n", &machine()).unwrap_err();
    let shown = report.to_string();
    assert!(shown.contains("not UTF-8") && shown.contains("weir.toml:2:9"), "{shown}");
    let long = " ".repeat(FILE_MAX + 1);
    assert!(refuse(&long).contains("longer than"));
}

#[test]
fn every_prefix_and_every_changed_byte_of_the_example_is_judged_without_a_panic() {
    let seed = 0x5eed_u64;
    println!("seed {seed}");
    for end in (0..EXAMPLE.len()).step_by(7) {
        let _judged = Config::parse("weir.toml", &EXAMPLE.as_bytes()[..end], &machine())
            .map_err(|report| report.to_string());
    }
    let mut state = seed;
    for _ in 0..1000 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        let at = (state >> 33) as usize % bytes.len();
        bytes[at] = (state >> 24) as u8;
        let _judged =
            Config::parse("weir.toml", &bytes, &machine()).map_err(|report| report.to_string());
    }
}

/// The invalid files of toml-test, where they are at hand.
#[test]
fn the_invalid_files_of_toml_test_are_refused() {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "../../shared/data/badinput/toml"].iter().collect();
    let mut files = Vec::new();
    collect(&folder, &mut files);
    if files.is_empty() {
        println!("data test skipped: invalid TOML: {} is absent", folder.display());
        return;
    }
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let report = Config::parse("weir.toml", &bytes, &machine())
            .map(|_| file.display().to_string())
            .expect_err("refused");
        assert!(report.to_string().contains("error:"), "{}", file.display());
    }
    println!("data test ran: invalid TOML: {} files refused", files.len());
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
}
