//! The way to a network function: a Unix socket, and on that of a data plane one of its instances.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use weir_api::nf::v1::network_function_service_client::NetworkFunctionServiceClient;
use weir_api::socket::{FileId, file_id};

use crate::batch::MESSAGE_MAX;

/// The request metadata that names an instance of a data plane, by its number in decimal.
pub const INSTANCE: &str = "weir-instance";

/// The request metadata that says in which life the instance must be, in decimal: the number of one
/// that has ended is given to another. A request without it is for whichever there is.
pub const LIFE: &str = "weir-instance-life";

/// What a stream may hold that nobody has read, in bytes, and all streams together: of the gets and
/// subscriptions that a function has at one time, each has its share.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

pub(crate) type Stubs = NetworkFunctionServiceClient<InterceptedService<Channel, Named>>;

/// Names an instance in each request, if there is one to be named.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    number: Option<MetadataValue<Ascii>>,
    life: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Named {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in [(INSTANCE, &self.number), (LIFE, &self.life)] {
            if let Some(value) = value {
                request.metadata_mut().insert(name, value.clone());
            }
        }
        Ok(request)
    }
}

/// The way to a socket, which is connected when it is first needed and again when it was lost; each
/// time `connections` grows by one. Requests have no limit but those of who makes them. To be called
/// within a tokio runtime.
pub fn connect(path: &Path, limit: Duration, connections: Arc<AtomicU64>) -> Channel {
    channel(path, limit, move |_| {
        connections.fetch_add(1, Ordering::Relaxed);
    })
}

/// The same; each time `connected` is told where the path has led.
fn channel(
    path: &Path,
    limit: Duration,
    connected: impl Fn(Option<FileId>) + Clone + Send + Sync + 'static,
) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (path, connected) = (path.clone(), connected.clone());
        async move {
            let led_to = file_id(&path);
            let stream = UnixStream::connect(path).await?;
            connected(led_to);
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://localhost")
        .connect_timeout(limit)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector_lazy(connector)
}

pub(super) fn stubs(channel: Channel, instance: Option<u32>, life: Option<u64>) -> Stubs {
    let named = Named { number: instance.map(Into::into), life: life.map(Into::into) };
    NetworkFunctionServiceClient::with_interceptor(channel, named)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX)
}

/// The way to a network function's socket, to whoever has it at each call: one that hangs keeps its
/// connection, also when another was started in its place.
#[derive(Debug)]
pub(super) struct Way {
    path: PathBuf,
    limit: Duration,
    connections: Arc<AtomicU64>,
    /// Where the path led when the last connection was made.
    led_to: Arc<Mutex<Option<FileId>>>,
    stubs: Mutex<Option<Stubs>>,
}

impl Way {
    pub(super) fn new(path: &Path, limit: Duration, connections: Arc<AtomicU64>) -> Self {
        let (path, led_to, stubs) = (path.to_owned(), Arc::default(), Mutex::default());
        Self { path, limit, connections, led_to, stubs }
    }

    /// Stubs for a call. Those of before keep their connection as long as they are used.
    pub(super) fn stubs(&self) -> Stubs {
        let mut stubs = self.stubs.lock().expect("nobody panics while it is held");
        let led_to = *self.led_to.lock().expect("nobody panics while it is held");
        let is_another =
            led_to.is_some() && file_id(&self.path).is_some_and(|id| led_to != Some(id));
        if is_another {
            *stubs = None;
        }
        stubs.get_or_insert_with(|| self.connect()).clone()
    }

    fn connect(&self) -> Stubs {
        let (connections, led_to) = (Arc::clone(&self.connections), Arc::clone(&self.led_to));
        *led_to.lock().expect("nobody panics while it is held") = None;
        let connected = move |id| {
            *led_to.lock().expect("nobody panics while it is held") = id;
            connections.fetch_add(1, Ordering::Relaxed);
        };
        stubs(channel(&self.path, self.limit, connected), None, None)
    }
}
