//! Rapid upgrade of a network function (OpenNF, SIGCOMM 2014, section 6): a new version takes over
//! all state from the old one under traffic, and no packet is missed or counted twice.
//!
//! The function is in a process of its own, and is shown the packets that an instance has forwarded.
//! While the state is on its way they wait in the subscription and go to the new version in order. It
//! keeps 1,024 packets, of 1 MiB together, which is under a second of many a router: what is beyond
//! is missed by both versions, counted and told. If the upgrade is undone, the old version goes on;
//! when nobody knows which of the two has the state, none does, and the application ends.
//!
//! ```sh
//! cargo run -p weir-client --example rapid_upgrade -- \
//!     /run/weir/control.sock sw1 proto=udp counter-1=/run/feed-1.sock counter-2=/run/feed-2.sock
//! ```

use std::{path::Path, pin::pin, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    net::UnixDatagram,
    select,
    time::{sleep, timeout},
};
use weir_client::{
    Client, Copy, Error, Events, Guarantee, Move, Notify, Outcome, Scope, StateOperationState,
    Told, request_id,
};

/// How long a sidecar that is not reached is asked how a move has ended.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// The pause between two such questions.
const AGAIN: Duration = Duration::from_millis(100);

/// Who has the state after an upgrade, and is shown packets.
#[derive(Debug)]
pub(crate) enum Upgraded {
    /// The new version.
    Done(Outcome),
    /// The old one: why the new one has not taken over.
    Undone(anyhow::Error),
}

/// A network function, as the sidecar calls it, and the socket by which frames come to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function<'a> {
    pub name: &'a str,
    pub feed: &'a Path,
}

/// Shows a function the packets of an instance.
pub(crate) struct Feeder {
    client: Client,
    packets: Events,
    fed: Fed,
    /// Packets that it was not shown, as they were not taken as fast as they came.
    pub missed: u64,
}

/// The function that is shown packets now.
struct Fed {
    name: String,
    feed: UnixDatagram,
    /// What it tells of each packet that it has processed.
    processed: Events,
    /// Packets that it has been shown and has not told of.
    waiting: u64,
}

impl Fed {
    async fn new(client: &Client, function: Function<'_>) -> anyhow::Result<Self> {
        let feed = UnixDatagram::unbound()?;
        feed.connect(function.feed).with_context(|| function.feed.display().to_string())?;
        let processed = client.notify(&Notify::new(function.name, "any")).await?;
        Ok(Self { name: function.name.to_owned(), feed, processed, waiting: 0 })
    }

    /// Shows it a packet, when it has room.
    async fn show(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        self.feed.send(packet).await.with_context(|| format!("{} takes no packets", self.name))?;
        self.waiting += 1;
        Ok(())
    }

    fn told(&mut self, told: Option<Told>) -> anyhow::Result<()> {
        let packets = match told.context("the notification was cancelled")? {
            Told::Event(_) => 1,
            Told::Gap(packets) => packets,
        };
        self.waiting = self.waiting.saturating_sub(packets);
        Ok(())
    }

    /// Waits until it has processed all that it was shown.
    async fn settle(&mut self) -> anyhow::Result<()> {
        while self.waiting > 0 {
            let told = self.processed.next().await?;
            self.told(told)?;
        }
        Ok(())
    }
}

impl Feeder {
    /// Begins to show a function the packets of an instance. The filter is to pick packets that the
    /// function processes: an upgrade waits for each of them.
    pub(crate) async fn start(
        client: Client,
        (instance, filter): (&str, &str),
        function: Function<'_>,
    ) -> anyhow::Result<Self> {
        let fed = Fed::new(&client, function).await?;
        let whole = Notify { snap: u16::MAX.into(), ..Notify::new(instance, filter) };
        let packets = client.notify(&whole).await?;
        Ok(Self { client, packets, fed, missed: 0 })
    }

    /// Shows packets until something is so.
    pub(crate) async fn feed_until(
        &mut self,
        until: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut until = pin!(until);
        loop {
            select! {
                () = &mut until => return Ok(()),
                told = self.packets.next() => self.show(told?).await?,
                told = self.fed.processed.next() => self.fed.told(told?)?,
            }
        }
    }

    async fn show(&mut self, told: Option<Told>) -> anyhow::Result<()> {
        match told.context("the notification was cancelled")? {
            Told::Event(event) => self.fed.show(&event.packet).await?,
            Told::Gap(packets) => self.missed += packets,
        }
        Ok(())
    }

    /// Gives all that the function knows to another, which is shown what comes from then on.
    ///
    /// No packet is processed meanwhile, so that a move without guarantees loses none.
    ///
    /// # Errors
    /// When nobody knows which of the two has what of the state.
    pub(crate) async fn upgrade(
        &mut self,
        new: Function<'_>,
        limit: Duration,
    ) -> anyhow::Result<Upgraded> {
        let next = match self.prepare(new, limit).await {
            Ok(next) => next,
            Err(error) => return Ok(Upgraded::Undone(error)),
        };
        let moved = Move {
            scopes: vec![Scope::PerFlow, Scope::MultiFlow],
            guarantee: Guarantee::None,
            limit,
            ..Move::new(&self.fed.name, new.name, "any")
        };
        let upgraded = hand_over(&self.client, moved).await?;
        if let Upgraded::Done(_) = upgraded {
            self.fed = next;
        }
        Ok(upgraded)
    }

    /// Sees that the old version is not behind, and copies what is merged, which may be so although
    /// the new one does not take over then.
    async fn prepare(&mut self, new: Function<'_>, limit: Duration) -> anyhow::Result<Fed> {
        let next = Fed::new(&self.client, new).await?;
        let old = self.fed.name.clone();
        timeout(limit, self.fed.settle())
            .await
            .with_context(|| format!("{old} does not tell of all packets that it was shown"))??;
        let all_flows =
            Copy { scopes: vec![Scope::AllFlows], limit, ..Copy::new(&old, new.name, "any") };
        self.client.copy(&all_flows).await?;
        Ok(next)
    }
}

/// Moves state; who has it then. A move whose sidecar is not reached any more, or is not sure of it,
/// may go on or be done: asked again with its request id, it is the same move.
///
/// # Errors
/// When that is not known.
pub(crate) async fn hand_over(client: &Client, mut moved: Move) -> anyhow::Result<Upgraded> {
    moved.request_id = Some(request_id()?);
    let unknown = || format!("{} or {} has the state: nobody knows", moved.from, moved.to);
    let first = client.move_state(&moved).await;
    let is_first = !is_open(&first);
    let ended = if is_first {
        first
    } else {
        timeout(ANSWER_LIMIT, asked_again(client, &moved)).await.with_context(unknown)?
    };
    match ended {
        Ok(outcome) => Ok(Upgraded::Done(outcome)),
        Err(Error::Ended(ended)) if ended.state() == StateOperationState::Undone => {
            Ok(Upgraded::Undone(Error::Ended(ended).into()))
        }
        Err(error @ Error::Refused(_)) if is_first => Ok(Upgraded::Undone(error.into())),
        Err(error) => Err(error).with_context(unknown),
    }
}

/// Whether what a sidecar says leaves open what has become of a move.
fn is_open(said: &Result<Outcome, Error>) -> bool {
    matches!(said, Err(Error::Unreachable { .. } | Error::Unsure(_)))
}

async fn asked_again(client: &Client, moved: &Move) -> Result<Outcome, Error> {
    loop {
        sleep(AGAIN).await;
        let said = client.move_state(moved).await;
        if !is_open(&said) {
            return said;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, clippy::allow_attributes, reason = "tests use what is above, and not this")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, instance, filter, old, new] = arguments.as_slice() else {
        bail!("usage: rapid_upgrade SOCKET INSTANCE FILTER OLD=FEED NEW=FEED");
    };
    let function = |text: &str| -> anyhow::Result<_> {
        let (name, feed) = text.split_once('=').context("a function is NAME=FEED")?;
        Ok((name.to_owned(), Path::new(feed).to_owned()))
    };
    let (old, new) = (function(old)?, function(new)?);
    let client = Client::unix(Path::new(socket)).await?;
    let old = Function { name: &old.0, feed: &old.1 };
    let new = Function { name: &new.0, feed: &new.1 };
    let mut feeder = Feeder::start(client, (instance, filter), old).await?;
    eprintln!("{} is shown packets; start {} and it takes over", old.name, new.name);
    let there = async {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        while !new.feed.exists() {
            look.tick().await;
        }
    };
    feeder.feed_until(there).await?;
    match feeder.upgrade(new, Duration::from_secs(30)).await? {
        Upgraded::Done(moved) => {
            eprintln!("{} has taken over: {} pieces in {:?}", new.name, moved.chunks, moved.took);
        }
        Upgraded::Undone(error) => eprintln!("{} goes on: {error:#}", old.name),
    }
    let mut told = 0;
    loop {
        if feeder.missed > told {
            told = feeder.missed;
            eprintln!("{told} packets were missed: neither version has seen them");
        }
        feeder.feed_until(sleep(Duration::from_secs(1))).await?;
    }
}
