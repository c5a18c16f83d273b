//! Network functions in processes of their own, as documents start them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use weir_testbed::folder::Folder;
use weir_testbed::namespace::Namespace;
use weir_testbed::process::Process;
use weir_testbed::topology::Topology;
use weir_testbed::wait::LIMIT;

use super::text::{blocks, document};
use super::{Places, Runs, shell, succeeds, those};

const GUIDE: &str = "testbed/examples/nf_python/README.md";

/// An origin whose answers may be kept.
const ORIGIN: &str = "
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Cache-Control', 'max-age=600')
        self.send_header('Content-Length', '5')
        self.end_headers()
        self.wfile.write(b'hello')
server = http.server.HTTPServer(('10.0.3.2', 8000), Answer)
print('it listens', flush=True)
server.serve_forever()
";

/// The block of the guide in a row, as it may be pasted, and then the kit as the README has it.
#[test]
#[ignore = "needs Python packages: testbed/install.sh --python"]
fn the_example_in_python_passes_the_kit_as_its_guide_and_the_readme_run_it() {
    let folder = Folder::new().unwrap();
    let guide = blocks(&document(GUIDE), "sh").concat();
    assert!(document(GUIDE).contains("`kill %1 %2` ends both"));
    let kit = those(Runs::Kit).join(" && ");
    // Where a shell has job control, as one that is typed into.
    let script = format!("set -m\nset -e\ntrap 'kill %1 %2; wait' EXIT\n{guide}\n{kit}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = shell(&Places::new(folder.path()).put(&script), folder.path(), None);
    command.current_dir(root).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().unwrap();
    let said = super::said(&output);
    let counts: Vec<_> = said.lines().filter(|line| line.contains("69 rules")).collect();
    println!("{counts:?}");
    assert!(output.status.success() && counts.len() == 2, "{}: {said}", output.status);
}

#[test]
#[ignore = "needs root"]
fn the_agent_of_a_kernel_serves_as_the_readme_starts_it() {
    let (kernel, folder) = (Namespace::new().unwrap(), Folder::new().unwrap());
    let places = Places::new(folder.path()).with("nat-1 ", &format!("{} ", kernel.name()));
    for line in those(Runs::Agent) {
        let command = shell(&format!("exec {}", places.put(&line)), folder.path(), None);
        let mut agent = Process::spawn("agent", &command, &folder.path().join("log")).unwrap();
        let socket = folder.path().join("nat-1.sock");
        agent.wait_for_socket(&socket, LIMIT).unwrap();
        // It knows a connection of this kernel, and the kit finds nothing wrong.
        kernel
            .run("nft add table ip t; add chain ip t c { type filter hook input priority 0; }")
            .unwrap();
        kernel.run("nft add rule ip t c ct state new counter").unwrap();
        let open = kernel.enter(|| {
            let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap()
        });
        let kit = format!("weir-nf-conformance unix://{} --complete --disturb", socket.display());
        let said = succeeds(shell(&kit, folder.path(), None));
        assert!(!said.contains("FAIL"), "{said}");
        drop(open);
    }
}

#[test]
#[ignore = "needs root"]
fn the_proxy_keeps_what_a_client_fetches_as_the_readme_starts_both() {
    let (topology, folder) = (Topology::new(1).unwrap(), Folder::new().unwrap());
    topology.forward_by_kernel().unwrap();
    let [at, client, origin, _] = [0, 1, 2, 3].map(|host| &topology.hosts[host].namespace);
    at.run("ip address add 10.0.1.9/24 dev eth0").unwrap();
    let script = folder.path().join("origin.py");
    fs::write(&script, ORIGIN).unwrap();
    let mut command = origin.command("python3");
    command.arg(&script);
    let mut serving = Process::spawn("origin", &command, &folder.path().join("origin")).unwrap();
    serving.wait_for_line("it listens", LIMIT).unwrap();
    let places = Places::new(folder.path());
    let [proxy, fetch] = [Runs::Proxy, Runs::Client].map(|runs| places.put(&those(runs).concat()));
    let command = shell(&format!("exec {proxy}"), folder.path(), Some(at));
    let mut proxy = Process::spawn("cache", &command, &folder.path().join("cache")).unwrap();
    proxy.wait_for_line("ready", LIMIT).unwrap();
    let fetched = |line: &str| succeeds(shell(line, folder.path(), Some(client))).to_lowercase();
    for cached in ["x-cache: miss", "x-cache: hit"] {
        let said = fetched(&fetch);
        assert!(said.contains(cached) && said.contains("hello"), "{said}");
    }
    let refused = fetched(&fetch.replace(":8000", ":8001"));
    assert!(refused.contains("502") && refused.contains("proxy-status:"), "{refused}");
}
