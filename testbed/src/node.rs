//! A Weir node under test: a data plane and, if wanted, a sidecar in a router namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::dataplane::Dataplane;
use crate::folder::Folder;
use crate::process::{Process, sibling};
use crate::sidecar::Sidecar;
use crate::topology::{HOSTS, Topology, addresses, device};
use crate::udp::ROUTER;
use crate::wait::LIMIT;
use crate::way_out::WayOut;

/// How long a process may take to stop: it drains or undoes its moves first.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How a node is to be set up.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The workers: each is pinned to a core or not.
    pub workers: Vec<Option<u16>>,
    /// Queues of each port.
    pub queues: u32,
    /// `adaptive` or `busy`.
    pub poll: &'static str,
    /// Capacity that each instance declares, in percent of a core.
    pub capacity_percent: u8,
    /// Whether the data plane serves faults for tests.
    pub faults: bool,
    /// The folder of the sidecar's store, where it is not that of the node.
    pub store: Option<PathBuf>,
    /// The router's addresses at a SAP, with prefix length.
    pub addresses: fn(usize) -> [String; 2],
    /// Further tables of the configuration file.
    pub tables: String,
    /// By which way packets leave; that of the run if it is not said.
    pub way_out: Option<WayOut>,
    /// How the scheduler prefers the data plane to the hosts, whose threads have the same cores here
    /// and others in a network: -20, most, to 19 (sched(7), the nice value).
    pub nice: i8,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            workers: vec![Some(0), Some(1)],
            queues: 2,
            poll: "adaptive",
            capacity_percent: 100,
            faults: false,
            store: None,
            addresses: |sap| addresses(sap, ROUTER),
            tables: String::new(),
            way_out: None,
            nice: 0,
        }
    }
}

/// A running node, stopped when dropped.
#[derive(Debug)]
pub struct Node {
    /// The process of the data plane.
    pub dataplane: Process,
    /// The process of the sidecar, while there is one.
    pub sidecar: Option<Process>,
    folder: Folder,
    logs: PathBuf,
    router: String,
    shape: Shape,
}

impl Node {
    /// Starts a data plane in the router namespace of a topology. Logs go to the folder `logs`; to
    /// a temporary one when there is none.
    ///
    /// # Errors
    /// When it does not come up; with its last words.
    pub fn start(topology: &Topology, shape: &Shape, logs: Option<&Path>) -> Result<Self> {
        let folder = Folder::new()?;
        let logs = logs.unwrap_or(folder.path()).to_owned();
        fs::create_dir_all(&logs)?;
        let config = folder.path().join("weir.toml");
        fs::write(&config, shape.configuration(folder.path()))?;
        let router = topology.router.name().to_owned();
        let dataplane = start_dataplane(&router, &config, shape, &logs)?;
        Ok(Self { dataplane, sidecar: None, folder, logs, router, shape: shape.clone() })
    }

    /// Kills the data plane (SIGKILL), and starts it again.
    ///
    /// # Errors
    /// When it does not come up again; with its last words.
    pub fn restart_dataplane(&mut self) -> Result<Dataplane> {
        self.dataplane.kill()?;
        let log = self.logs.join("weir-dataplane.log");
        fs::rename(&log, self.logs.join("weir-dataplane.before.log"))?;
        self.dataplane = start_dataplane(&self.router, &self.config(), &self.shape, &self.logs)?;
        self.connect()
    }

    /// Starts a sidecar, which finds what runs and converges. With `pause_at`, operations stand
    /// still before the step of that name.
    ///
    /// # Errors
    /// When it does not come up; with its last words.
    pub fn start_sidecar(&mut self, pause_at: Option<&str>) -> Result<Sidecar> {
        let socket = self.folder.path().join("control.sock");
        let mut command = within(&self.router, 0, "weir-control")?;
        command.arg("--config").arg(self.config());
        if let Some(step) = pause_at {
            command.args(["--pause-at", step]);
        }
        let log = self.logs.join("weir-control.log");
        // The log of a sidecar that was killed tells why it was: kept.
        if log.exists() {
            fs::rename(&log, self.logs.join("weir-control.before.log"))?;
        }
        let mut process = Process::spawn("weir-control", &command, &log)?;
        process.wait_for_socket(&socket, LIMIT)?;
        process.prefer();
        self.sidecar = Some(process);
        let sidecar = Sidecar::connect(&socket)?;
        sidecar.wait_until_connected()?;
        Ok(sidecar)
    }

    /// Kills the sidecar (SIGKILL).
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_sidecar(&mut self) -> Result<()> {
        self.sidecar.take().context("no sidecar runs")?.kill()?;
        Ok(())
    }

    /// Asks the sidecar to stop, and waits for its end.
    ///
    /// # Errors
    /// When it does not stop, or not cleanly.
    pub fn stop_sidecar(&mut self) -> Result<()> {
        stop(&mut self.sidecar.take().context("no sidecar runs")?)
    }

    /// Asks both processes to stop, the sidecar first, and waits for their end.
    ///
    /// # Errors
    /// When one does not stop, or not cleanly.
    pub fn stop(mut self) -> Result<()> {
        if self.sidecar.is_some() {
            self.stop_sidecar()?;
        }
        stop(&mut self.dataplane)
    }

    /// Connects to the data plane.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn connect(&self) -> Result<Dataplane> {
        Dataplane::connect(&self.socket())
    }

    /// The socket of its data plane.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("dataplane.sock")
    }

    /// The socket of its sidecar.
    pub fn control_socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("weir.toml")
    }

    /// The arguments by which `weir` reaches the sidecar.
    pub fn server(&self) -> [String; 2] {
        let socket = self.control_socket();
        ["--server".to_owned(), format!("unix://{}", socket.display())]
    }
}

impl Shape {
    /// By which way packets leave.
    ///
    /// # Errors
    /// As [`WayOut::of_run`].
    pub fn way_out(&self) -> Result<WayOut> {
        self.way_out.map_or_else(WayOut::of_run, Ok)
    }

    /// The configuration file of a node whose sockets are in `folder`.
    pub fn configuration(&self, folder: &Path) -> String {
        let store = self.store.as_deref().unwrap_or(folder).display();
        let folder = folder.display();
        let mut text = format!(
            "[node]\nname = \"testbed\"\n\n\
             [dataplane]\nsocket = \"{folder}/dataplane.sock\"\npoll = \"{}\"\n\n\
             [instance]\ncapacity = \"{}%\"\n\n\
             [control]\nsocket = \"{folder}/control.sock\"\n\
             dataplane_socket = \"{folder}/dataplane.sock\"\nstore = \"{store}/control.db\"\n\n",
            self.poll, self.capacity_percent
        );
        for worker in &self.workers {
            text += "[[worker]]\n";
            if let Some(core) = worker {
                text += &format!("core = {core}\n");
            }
        }
        for sap in 0..HOSTS {
            let [ipv4, ipv6] = (self.addresses)(sap);
            text += &format!(
                "\n[[port]]\nname = \"{0}\"\nbackend = \"af_xdp\"\ndevice = \"{0}\"\n\
                 addresses = [\"{ipv4}\", \"{ipv6}\"]\nqueues = {1}\n",
                device(sap),
                self.queues
            );
        }
        text + "\n" + &self.tables
    }
}

fn start_dataplane(router: &str, config: &Path, shape: &Shape, logs: &Path) -> Result<Process> {
    let mut command = within(router, shape.nice, "weir-dataplane")?;
    let way_out = shape.way_out()?;
    command.arg("--config").arg(config).args(["--tx", way_out.as_str()]);
    if shape.faults {
        command.arg("--faults");
    }
    let mut process = Process::spawn("weir-dataplane", &command, &logs.join("weir-dataplane.log"))?;
    process.wait_for_line("ready", LIMIT)?;
    process.prefer();
    Ok(process)
}

/// A program of ours in a network namespace, with a nice value.
fn within(namespace: &str, nice: i8, program: &str) -> Result<Command> {
    let mut command = Command::new("nice");
    command.args(["-n", &nice.to_string(), "ip", "netns", "exec", namespace]);
    command.arg(sibling(program)?);
    Ok(command)
}

fn stop(process: &mut Process) -> Result<()> {
    let status = process.terminate(STOP_LIMIT)?;
    if status.success() { Ok(()) } else { Err(process.ended_badly(status)) }
}
