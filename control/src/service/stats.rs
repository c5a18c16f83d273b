//! `StatsService`: all figures of the node, read together.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Status};
use weir_api::v1::{
    GetStatsRequest, GetStatsResponse, Stats, WatchStatsRequest, WatchStatsResponse,
    stats_service_server::StatsService,
};

use super::{
    Answer, Api, answer, convert, message, southbound,
    stream::{self, Answers, Sink},
};
use crate::{fault::Fault, sidecar::Sidecar};

const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
const INTERVAL_MIN: Duration = Duration::from_millis(10);

#[tonic::async_trait]
impl StatsService for Api {
    async fn get_stats(&self, _: Request<GetStatsRequest>) -> Answer<GetStatsResponse> {
        let stats = stats(&self.sidecar).await;
        answer(stats.map(|stats| GetStatsResponse { stats: Some(stats) }))
    }

    type WatchStatsStream = Answers<WatchStatsResponse>;

    async fn watch_stats(
        &self,
        request: Request<WatchStatsRequest>,
    ) -> Answer<Answers<WatchStatsResponse>> {
        let interval = match message(request).interval_ns {
            0 => INTERVAL_DEFAULT,
            nanos => Duration::from_nanos(nanos).max(INTERVAL_MIN),
        };
        let sidecar = Arc::clone(&self.sidecar);
        stream::spawn(|sink| watch(sidecar, interval, sink))
    }
}

async fn watch(sidecar: Arc<Sidecar>, interval: Duration, sink: Sink<WatchStatsResponse>) {
    loop {
        let stats = stats(&sidecar).await;
        let failed = stats.is_err();
        let response = stats.map(|stats| WatchStatsResponse { stats: Some(stats) });
        if sink.send(response.map_err(Status::from)).await.is_err() || failed {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = sidecar.stopped() => return,
            () = sink.closed() => return,
        }
    }
}

async fn stats(sidecar: &Sidecar) -> Result<Stats, Fault> {
    let dataplane = sidecar.southbound();
    let (ports, workers, listed, counters) = tokio::try_join!(
        dataplane.list_ports(),
        dataplane.list_workers(),
        dataplane.list_instances(),
        dataplane.counters()
    )
    .map_err(southbound)?;
    Ok(Stats {
        at_ns: listed.at_ns,
        ports,
        workers,
        instances: convert::instances(listed.instances, &sidecar.link().borrow()),
        counters: Some(counters),
    })
}
