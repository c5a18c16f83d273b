//! A sidecar that knows two proxies, and a control application that asks it.

use std::path::Path;

use tokio::runtime::{Builder, Runtime};
use weir_client::{Client, Guarantee, Move, Outcome, Scope};
use weir_control::config::Config;
use weir_control::service;
use weir_control::sidecar::Sidecar;

use crate::process::Process;
use crate::running::Place;

/// A sidecar in this process, and its client. It ends when this is dropped.
pub(crate) struct Controlled {
    client: Client,
    runtime: Runtime,
    _place: Place,
}

impl Controlled {
    /// A sidecar that knows the proxies as `one` and `two`.
    pub(crate) fn of(proxies: &[Process; 2]) -> Self {
        let place = Place::new();
        let path = |name: &str| place.socket().with_file_name(name);
        let nf = |(name, socket): (&str, &Path)| {
            format!("[[control.nf]]\nname = '{name}'\nsocket = '{}'\n", socket.display())
        };
        let [one, two] = proxies.each_ref().map(|proxy| proxy.place.socket());
        let nfs = [("one", one.as_path()), ("two", two.as_path())].map(nf).concat();
        let text = format!(
            "[control]\nsocket = '{}'\ndataplane_socket = '{}'\nstore = '{}'\n{nfs}",
            path("control.sock").display(),
            path("absent.sock").display(),
            path("control.db").display(),
        );
        let config = Config::parse(&text, "weir.toml").expect("a configuration");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(async {
            let sidecar = Sidecar::start(config, None).await.expect("a sidecar");
            service::serve(&sidecar).await.expect("it is served");
            Client::unix(&path("control.sock")).await.expect("it lets its own user in")
        });
        Self { client, runtime, _place: place }
    }

    /// Moves state from one to the other as it is, and waits until that is done.
    pub(crate) fn moves(&self, from: &str, to: &str, filter: &str, scopes: &[Scope]) -> Outcome {
        let asked = Move {
            guarantee: Guarantee::None,
            scopes: scopes.to_vec(),
            ..Move::new(from, to, filter)
        };
        self.runtime.block_on(self.client.move_state(&asked)).expect("it is done")
    }
}
