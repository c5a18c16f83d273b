//! The testbed of the Weir router: namespaces, traffic, the demo, and what end-to-end tests need.
#![forbid(unsafe_code)]

/// An instance, asked for its state.
pub mod asked;
/// Weir side by side with others.
pub mod bench;
/// Bulk transfers over TCP.
pub mod bulk;
/// What arrives at a host.
pub mod capture;
/// Running a command to its end.
pub mod command;
mod cost;
/// The CPU time of a process.
pub mod cpu;
/// The southbound API.
pub mod dataplane;
/// The main job, shown.
pub mod demo;
mod engine;
/// OpenNF's experiment, repeated.
pub mod experiment;
/// The UDP flows of the generator.
pub mod flow;
/// Folders that go with their guard.
pub mod folder;
/// The sending end of the traffic.
pub mod generator;
/// A kernel that forwards, to compare with.
pub mod kernel_router;
/// A node over memory ports, stepped by hand.
pub mod memory_node;
/// Network namespaces.
pub mod namespace;
/// A Weir node under test.
pub mod node;
/// Raw frames to and from a device.
pub mod packet_socket;
/// Pings between hosts.
pub mod ping;
/// Child processes.
pub mod process;
/// The state of flows against a reference.
pub mod reference;
/// Calls to a gRPC server.
pub mod rpc;
/// Random schedules.
pub mod schedule;
/// A session of its own.
pub mod session;
/// The northbound API.
pub mod sidecar;
/// The receiving end of the traffic.
pub mod sink;
/// Four hosts around a router.
pub mod topology;
/// Captures in files.
pub mod trace;
/// UDP traffic between all hosts.
pub mod traffic;
/// The frames of the generator.
pub mod udp;
/// Cables between namespaces.
pub mod veth;
/// Waiting with a limit.
pub mod wait;
/// By which way packets leave.
pub mod way_out;
