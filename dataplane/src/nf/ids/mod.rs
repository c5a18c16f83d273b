//! Intrusion detection: TCP reassembly, logs of connections and of HTTP, scans of sources.
//!
//! The successor of Bro in the evaluation of OpenNF (section 7): a function whose state is worth
//! moving. Packets and their times come in, records go out; there is no I/O, no clock and no
//! chance in it. A [`Connection`] is all that is known of a flow. It is kept by the caller, travels
//! as bytes, and what becomes of it does not depend on which [`Ids`] processes it.

mod codec;
mod config;
mod connection;
mod digest;
mod function;
mod history;
mod http;
pub mod log;
mod note;
mod packet;
mod reassembly;
pub mod record;
mod scan;
mod share;
mod southbound;
mod tcp;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::VecDeque;

use weir_state_transfer::merge::{Life, Replica};
use weir_state_transfer::protocol;

use crate::nf::share::FunctionOperation;
use crate::packet::{Flags, Meta};
use http::Transaction;
use packet::Packet;
use scan::{Full, Sources};

pub use crate::nf::origin::Origin;
pub use crate::nf::{Both, Side, Timestamp};
pub use config::{Config, ScanConfig, Timeouts};
pub(crate) use connection::CONNECTION_BYTES;
pub use connection::Connection;
pub use digest::Digest;
pub use note::{Note, Notes};
pub use record::{Record, ScanRecord};
pub(in crate::nf) use scan::Attempt;
pub use scan::Source;
pub(in crate::nf) use share::Operation;
pub use totals::Totals;

/// An instance of the intrusion detection: all but the connections.
#[derive(Clone, Debug)]
pub struct Ids {
    config: Config,
    replica: Replica,
    totals: Totals,
    sources: Sources,
    records: VecDeque<Record>,
    /// Transactions that the packet in hand has completed; empty between packets.
    done: Vec<Transaction>,
}

impl Ids {
    /// An instance that counts as that replica.
    pub fn new(config: Config, replica: Replica) -> Self {
        Self {
            config,
            replica,
            totals: Totals::default(),
            sources: Sources::new(replica),
            records: VecDeque::new(),
            done: Vec::new(),
        }
    }

    /// Processes a packet of the flow whose connection is `connection`, if there is one already.
    ///
    /// Both directions of a flow share a connection. One that has timed out, or whose ports are
    /// used again, ends first.
    pub fn packet(
        &mut self,
        connection: &mut Option<Connection>,
        meta: &Meta,
        frame: &[u8],
        now: Timestamp,
    ) {
        if meta.flags.has(Flags::ARP) {
            return;
        }
        let Self { totals, replica, .. } = self;
        totals.packets.add(*replica, 1);
        totals.ip_bytes.add(*replica, meta.ip_len().into());
        if meta.flags.has(Flags::KEY_OF_QUOTED) {
            totals.icmp_errors.add(*replica, 1);
            connection.iter_mut().for_each(Connection::icmp_error);
            return;
        }
        if meta.flags.has(Flags::FRAGMENT) {
            totals.fragments.add(*replica, 1);
        }
        let packet = Packet::read(meta, frame);
        self.expire(connection, now);
        if connection.as_ref().is_some_and(|known| known.is_reused_by(&packet)) {
            self.end(connection);
        }
        if connection.is_none() {
            self.totals.connections.add(self.replica, 1);
        }
        let connection = connection.get_or_insert_with(|| Connection::begin(&packet, now));
        connection.packet(&packet, now, &mut self.done);
        if !self.done.is_empty() {
            self.log_transactions(connection.id());
        }
    }

    /// Ends a connection that has been idle for too long; whether it did.
    pub fn expire(&mut self, connection: &mut Option<Connection>, now: Timestamp) -> bool {
        let timeouts = &self.config.timeouts;
        let over =
            connection.as_ref().is_some_and(|known| known.time_left(timeouts, now).is_zero());
        if over {
            self.end(connection);
        }
        over
    }

    /// Ends a connection and writes its record: once, as there is none afterwards.
    pub fn end(&mut self, connection: &mut Option<Connection>) {
        let Some(connection) = connection.take() else { return };
        let (key, begun) = (*connection.key(), connection.begun());
        let record = connection.end(&mut self.done);
        self.log_transactions(record.id);
        self.totals.ended.add(self.replica, 1);
        let failed = matches!(record.state, "S0" | "REJ" | "RSTOS0");
        if key.protocol() == protocol::TCP && failed {
            self.failed(&Attempt { source: Origin::of(&key), to: record.id.resp, at: begun });
        }
        self.log(Record::Conn(Box::new(record)));
    }

    /// Forgets a connection that did not come to be, as another function has refused its first
    /// packet: without a record, and not as an attempt of its source.
    pub fn withdraw(&mut self, connection: &mut Option<Connection>) {
        if connection.take().is_some() {
            self.totals.ended.add(self.replica, 1);
        }
    }

    /// Gives up what is kept of the streams of a connection: it goes on without. What it had found
    /// out is recorded.
    pub fn give_up(&mut self, connection: &mut Connection) {
        self.totals.without_memory.add(self.replica, 1);
        connection.give_up(&mut self.done);
        if !self.done.is_empty() {
            self.log_transactions(connection.id());
        }
    }

    /// Takes the records that there are.
    pub fn drain(&mut self) -> impl Iterator<Item = Record> + '_ {
        self.records.drain(..)
    }

    /// Takes the oldest record.
    pub fn next_record(&mut self) -> Option<Record> {
        self.records.pop_front()
    }

    /// Records that wait to be taken.
    pub fn waiting(&self) -> usize {
        self.records.len()
    }

    /// What it has counted, by name.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let mut counters = self.totals.named();
        counters.push(("sources".to_owned(), self.sources.known.len() as u64));
        counters
    }

    /// The figures over all flows.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Takes over the counts of a life that has ended, all of which were joined.
    pub fn take_over(&mut self, ended: Life) {
        self.totals.take_over(ended, self.replica);
    }

    /// The sources that are watched.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = Origin> + '_ {
        self.sources.known.iter().map(|(origin, _)| *origin)
    }

    /// What a source has tried.
    pub fn source(&self, origin: &Origin) -> Option<&Source> {
        self.sources.known.source(origin)
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn failed(&mut self, attempt: &Attempt) {
        self.totals.failed.add(self.replica, 1);
        let groups = &mut self.sources.known.groups;
        if !groups.has_room(&attempt.source) {
            self.totals.unwatched.add(self.replica, 1);
            return;
        }
        let told = FunctionOperation::Ids(Operation::Attempt(*attempt));
        if groups.tell(attempt.source, told).is_err() {
            self.watch(attempt);
        }
    }

    /// Watches a source that has its home here.
    fn watch(&mut self, attempt: &Attempt) {
        match self.sources.failed(attempt, &self.config.scan) {
            Ok(scan) => scan.into_iter().for_each(|scan| self.log(Record::Scan(scan))),
            Err(Full::Sources | Full::Replicas) => self.totals.unwatched.add(self.replica, 1),
        }
    }

    fn log_transactions(&mut self, id: record::ConnId) {
        let mut done = std::mem::take(&mut self.done);
        self.totals.transactions.add(self.replica, done.len() as u64);
        for transaction in done.drain(..) {
            self.log(Record::Http(Box::new(transaction.into_record(id))));
        }
        self.done = done;
    }

    fn log(&mut self, record: Record) {
        if self.records.len() < self.config.records_max {
            self.records.push_back(record);
        } else {
            self.totals.lost_records.add(self.replica, 1);
        }
    }
}
