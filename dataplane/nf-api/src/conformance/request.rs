//! Rules of requests that are wrong in themselves.

use tonic::{Code, Status};
use weir_api::nf::v1 as api;
use weir_state_transfer::filter::FILTER_MAX;

use super::subject::Subject;
use super::{Verdict, fail};
use crate::client::{CallError, within};
use crate::convert::{IDS_MAX, SNAP_MAX};

/// Gets with filters that are none.
pub(super) async fn filter(subject: &Subject) -> Verdict {
    let long = format!("http.url={}", "x".repeat(FILTER_MAX));
    let filters =
        ["", "nonsense", "src=10.0.0.1,src=10.0.0.2", "dport=65536", "proto=icmp,dport=1", &long];
    for filter in filters {
        let request = api::GetRequest { filter: filter.to_owned(), ..Default::default() };
        let mut client = subject.client.api();
        let get = async { client.get_per_flow(request).await?.into_inner().message().await };
        let shown: String = filter.chars().take(40).collect();
        invalid(subject, &format!("a get for {shown:?}"), get).await?;
    }
    Ok(())
}

/// Deletions of ids that are none, and of too many.
pub(super) async fn ids(subject: &Subject) -> Verdict {
    let many = vec![vec![0, 0]; IDS_MAX + 1];
    for (what, ids) in [("what is no flow id", vec![vec![0xff, 0xff]]), ("257 flow ids", many)] {
        let request = || api::DelRequest { ids: ids.clone() };
        let (mut one, mut two) = (subject.client.api(), subject.client.api());
        invalid(subject, &format!("a del of {what}"), one.del_per_flow(request())).await?;
        invalid(subject, &format!("a del of {what}"), two.del_multi_flow(request())).await?;
    }
    Ok(())
}

/// Subscriptions that say too little or ask for too much.
pub(super) async fn events(subject: &Subject) -> Verdict {
    let good = api::EnableEventsRequest {
        subscription: subject.number().0,
        filter: "any".to_owned(),
        action: api::Action::Process.into(),
        snap: 0,
    };
    let cases = [
        ("without an action", api::EnableEventsRequest { action: 0, ..good.clone() }),
        ("with a snap of 65536", api::EnableEventsRequest { snap: SNAP_MAX + 1, ..good.clone() }),
        ("for \"x\"", api::EnableEventsRequest { filter: "x".to_owned(), ..good }),
    ];
    for (what, request) in cases {
        let mut client = subject.client.api();
        let enabled = async { client.enable_events(request).await?.into_inner().message().await };
        invalid(subject, &format!("a subscription {what}"), enabled).await?;
    }
    Ok(())
}

async fn invalid<T>(
    subject: &Subject,
    what: &str,
    answer: impl Future<Output = Result<T, Status>>,
) -> Verdict {
    match within("a wrong request", subject.client.limit(), answer).await {
        Ok(_) => fail(format!("it does not refuse {what}")),
        Err(CallError::Refused { code: Code::InvalidArgument, reason, .. })
            if reason == "INVALID_FIELD" =>
        {
            Ok(())
        }
        Err(error) => fail(format!("{what} is not refused as INVALID_FIELD: {error:?}")),
    }
}
