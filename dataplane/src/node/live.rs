//! Whether the devices of ports take the live frames that are sent to them.
//!
//! The kernel tells nobody when it drops a live frame because the other end does not take them any more.
//! So what was sent is held against what the device counts as taken: the rest is refused.

use std::sync::Arc;

use super::Node;
use super::ports::{Kernel, PortRecord};
use crate::counters::{Counter, TxCounters};

/// What is known of the live frames of a port; written by the one watch of its node.
#[derive(Debug, Default)]
pub(super) struct LiveGauges {
    /// 1 while they are stopped, as the device does not take them.
    pub(super) stopped: Counter,
    /// Packets that the device did not take.
    pub(super) refused: Counter,
}

/// Looks after the ports that send live frames, on a thread that may wait.
pub struct LiveWatch(Vec<Watched>);

/// A port whose live frames are watched.
pub(super) struct Watched {
    pub(super) port: String,
    pub(super) device: String,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) queues: Vec<Arc<TxCounters>>,
    pub(super) gauges: Arc<LiveGauges>,
}

/// Why live frames of a port are stopped.
pub(super) const STOPPED: &str = "the device has ceased to take live frames, for which a veth's other end \
     needs an XDP program or GRO, or to say so; packets leave by the socket";

impl Node {
    /// A watch over the ports that send live frames; `None` if there are none.
    pub fn live_watch(&self) -> Option<LiveWatch> {
        let ports: Vec<_> = self.ports.values().filter_map(PortRecord::watched).collect();
        (!ports.is_empty()).then_some(LiveWatch(ports))
    }
}

impl LiveWatch {
    /// Asks the kernel about each port, which may wait for changes of devices; says what has changed.
    pub fn look(&self) -> Vec<String> {
        self.0.iter().filter_map(Watched::look).collect()
    }
}

impl Watched {
    fn look(&self) -> Option<String> {
        // Read before the device is asked, which may have taken more by then, but not less.
        let sent: u64 = self.queues.iter().map(|queue| queue.live.get()).sum();
        let state = self.kernel.watch_live();
        if let Some(taken) = state.taken {
            let refused = sent.saturating_sub(taken);
            // While packets leave it may seem to be less than it was.
            self.gauges.refused.set(refused.max(self.gauges.refused.get()));
        }
        let was_stopped = self.gauges.stopped.get() > 0;
        self.gauges.stopped.set(u64::from(!state.open));
        let Self { port, device, .. } = self;
        match (was_stopped, state.open) {
            (false, false) => Some(format!("port {port} (device {device}): {STOPPED}")),
            (true, true) => Some(format!(
                "port {port} (device {device}): the other end takes live frames again"
            )),
            _ => None,
        }
    }
}

impl std::fmt::Debug for LiveWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|watched| &watched.port)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::node::LiveState;

    struct Device(Mutex<LiveState>);

    impl Kernel for Device {
        fn punted(&self) -> u64 {
            0
        }

        fn has_carrier(&self) -> bool {
            true
        }

        fn watch_live(&self) -> LiveState {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn what_a_device_did_not_take_is_refused_and_a_change_is_told_once() {
        let device = Arc::new(Device(Mutex::new(LiveState { open: true, taken: Some(10) })));
        let queue = Arc::<TxCounters>::default();
        let gauges = Arc::<LiveGauges>::default();
        let watch = LiveWatch(vec![Watched {
            port: "a".to_owned(),
            device: "eth0".to_owned(),
            kernel: device.clone(),
            queues: vec![queue.clone()],
            gauges: gauges.clone(),
        }]);
        let look = |sent, open, taken| {
            queue.live.set(sent);
            *device.0.lock().unwrap() = LiveState { open, taken };
            let told = watch.look();
            (told.len(), gauges.stopped.get(), gauges.refused.get())
        };
        assert_eq!(look(8, true, Some(10)), (0, 0, 0), "it has taken what is not counted yet");
        assert_eq!(look(14, true, Some(10)), (0, 0, 4));
        assert_eq!(look(14, true, Some(12)), (0, 0, 4), "it never becomes less");
        assert_eq!(look(20, false, Some(12)), (1, 1, 8));
        assert_eq!(look(20, false, None), (0, 1, 8));
        assert_eq!(look(20, true, Some(12)), (1, 0, 8));
    }
}
