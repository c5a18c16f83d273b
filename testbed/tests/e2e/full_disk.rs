//! The disk of the sidecar's store is full: no change is accepted, and none is made.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use weir_testbed::command::run;
use weir_testbed::folder::Folder;
use weir_testbed::node::{Node, Shape};
use weir_testbed::process::sibling;
use weir_testbed::topology::Topology;

/// A small disk of its own, gone when dropped.
struct Disk(Folder);

impl Disk {
    fn new() -> Self {
        let folder = Folder::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k", "weir-test"]).arg(folder.path());
        run(&mut mount).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        let mut file = File::create(self.path().join("fill")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        // What stays is a temporary disk.
        let _left = run(umount.arg("--lazy").arg(self.path()));
    }
}

#[test]
#[ignore = "needs root"]
fn a_change_that_can_not_be_kept_is_refused_and_is_not_made() {
    let disk = Disk::new();
    let shape = Shape { store: Some(disk.path().to_owned()), ..Shape::default() };
    let topology = Topology::new(shape.queues).unwrap();
    let mut node = Node::start(&topology, &shape, None).unwrap();
    node.start_sidecar(None).unwrap();
    let dataplane = node.connect().unwrap();
    let weir = |line: &str| {
        let mut command = Command::new(sibling("weir").unwrap());
        command.args(node.server()).args(line.split(' ')).output().unwrap()
    };
    assert!(weir("route add 198.51.100.0/24 --via 10.0.2.2 --port sap2").status.success());
    let shown = || {
        let routes = dataplane.routes().unwrap();
        (routes, dataplane.workers().unwrap().len(), dataplane.moves().unwrap().len())
    };
    let before = shown();
    disk.fill();
    for line in [
        "route add 192.0.2.0/24 --via 10.0.2.2 --port sap2",
        "route add 198.51.100.0/24 --via 10.0.3.2 --port sap3",
        "route remove 198.51.100.0/24",
        "worker add",
        "scale --to 2",
    ] {
        let output = weir(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("nothing was changed"), "{line}: {said}");
        assert_eq!(shown(), before, "{line}");
    }

    disk.free();
    let output = weir("route remove 198.51.100.0/24");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(shown().0.len(), before.0.len() - 1);
    node.stop().unwrap();
}
