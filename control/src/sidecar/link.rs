//! The connection to the data plane, and the loads read over it.

use std::{sync::Arc, time::Duration};

use weir_api::dataplane::v1::{GetNodeResponse, Instance, InstanceState};

use super::Sidecar;
use crate::{
    scaling::load::{Load, LoadMeter},
    southbound::why,
};

/// The longest wait between two tries to reach a data plane.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// What the data plane showed last.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// Facts of the process; `None` while it is not reached.
    pub node: Option<GetNodeResponse>,
    /// Why it is not reached.
    pub error: String,
    /// Its instances.
    pub instances: Vec<Instance>,
    /// Loads of the ACTIVE instances that were measured twice.
    pub loads: Vec<Load>,
}

impl Link {
    /// Instances that are ACTIVE.
    pub fn active(&self) -> u32 {
        let active = |instance: &&Instance| instance.state == InstanceState::Active as i32;
        self.instances.iter().filter(active).count() as u32
    }

    /// The load of an instance, if it was measured.
    pub fn load(&self, instance: u32) -> Option<f64> {
        self.loads.iter().find(|load| load.instance == instance).map(|load| load.load)
    }
}

impl Sidecar {
    /// Reads the data plane at each interval. While it is not reached the waits double, up to
    /// [`BACK_OFF_MAX`]. Another start of the data plane begins everything anew.
    pub(super) async fn keep_link(self: Arc<Self>) {
        let interval = self.policy().interval.duration();
        let mut meter = LoadMeter::new(self.policy().window.nanos());
        let mut wait = interval;
        while !self.stopping() {
            let read = tokio::try_join!(self.southbound.node(), self.southbound.list_instances());
            match read {
                Ok((node, listed)) => {
                    wait = interval;
                    let before = self.link.borrow().node.as_ref().map(|node| node.incarnation);
                    if before != Some(node.incarnation) {
                        tracing::info!(incarnation = node.incarnation, "reached the data plane");
                        meter = LoadMeter::new(self.policy().window.nanos());
                    }
                    let loads = meter.sample(listed.at_ns, &listed.instances);
                    let (node, error) = (Some(node), String::new());
                    let instances = listed.instances;
                    self.link.send_replace(Link { node, error, instances, loads });
                }
                Err(status) => {
                    let error = why(&status);
                    if self.link.borrow().node.is_some() {
                        tracing::warn!(error, "lost the data plane");
                    }
                    self.link.send_replace(Link { error, ..Link::default() });
                    wait = (wait * 2).min(BACK_OFF_MAX);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stopped() => {}
            }
        }
    }
}
