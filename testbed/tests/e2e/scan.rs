//! A scan of a host that no instance takes for one by what it sees alone, and what was logged of it.

use std::ops::Range;
use std::process::Child;

use weir_testbed::folder::Folder;

use super::Setup;
use super::functions::lines;

/// Ports that refuse connections, and how many attempts are a scan: more than one of two instances
/// sees, and less than both do.
pub(super) const PORTS: Range<u16> = 30_000..30_090;
const THRESHOLD: usize = 66;

/// Tables of a node whose instances tell scans.
pub(super) fn tables(logs: &Folder) -> String {
    format!(
        "[[nf]]\nkind = \"ids\"\nlogs = \"{}\"\nscan_threshold = {THRESHOLD}\n\
         scan_window = \"24h\"\nreset_timeout = \"1s\"\n",
        logs.path().display()
    )
}

/// The first host asks the second for one closed port after the other.
pub(super) fn scan(setup: &Setup, ports: Range<u16>) -> Child {
    let program = format!(
        "import socket\nfor port in range({}, {}):\n s = socket.socket()\n \
         s.connect_ex(('10.0.2.2', port))\n s.close()\n",
        ports.start, ports.end
    );
    let mut command = setup.topology.hosts[0].namespace.command("python3");
    command.args(["-c", &program]);
    command.spawn().unwrap()
}

/// Attempts that are over and logged, by their ports.
pub(super) fn refused(logs: &Folder) -> Vec<u16> {
    let all = lines(logs.path(), "conn.log").into_iter();
    let refused = all.filter(|line| line["conn_state"] == "REJ");
    refused.map(|line| line["id.resp_p"].parse().unwrap()).collect()
}
