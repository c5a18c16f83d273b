//! What a caller may do: roles from certificates, and the check before each request.

use std::{
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
};

use rustls::pki_types::CertificateDer;
use tonic::{Code, Status, codegen::http};
use tower::{Layer, Service};

use super::Caller;
use crate::fault::Fault;

/// What a certificate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May look.
    Viewer,
    /// May change.
    Operator,
}

const ROLES: [(Role, &str); 2] = [(Role::Viewer, "viewer"), (Role::Operator, "operator")];

/// The scheme of the certificate's URI that names the role, as in `weir:role/operator`.
const ROLE_URI: &str = "weir:role/";

impl Role {
    /// The URI that stands for it in a certificate.
    pub fn uri(self) -> String {
        format!("{ROLE_URI}{}", self.word())
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        ROLES.iter().find(|(_, word)| *word == text).map(|(role, _)| *role).ok_or(())
    }
}

/// The role that a certificate names, if it names one.
pub fn role_of(certificate: &CertificateDer<'_>) -> Option<Role> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut roles = parsed.valid_uri_names().filter_map(|uri| uri.strip_prefix(ROLE_URI));
    roles.next()?.parse().ok()
}

/// Whether a method, as in `/weir.v1.ScaleService/Scale`, may change something. Methods that
/// only look have names that begin so.
pub fn writes(path: &str) -> bool {
    const LOOKS: [&str; 4] = ["Get", "List", "Watch", "Plan"];
    let Some(method) = path.strip_prefix("/weir.v1.").and_then(|rest| rest.split('/').nth(1))
    else {
        // Health and reflection only look.
        return !path.starts_with("/grpc.");
    };
    !LOOKS.iter().any(|prefix| method.starts_with(prefix))
}

/// Checks each request before it reaches a service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Authorise;

impl<S> Layer<S> for Authorise {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Authorised<S> {
        Authorised { inner }
    }
}

/// A service behind the check.
#[derive(Debug, Clone)]
pub struct Authorised<S> {
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for Authorised<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match check(request.extensions().get::<Caller>(), request.uri().path()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(fault) => {
                let refusal = Status::from(fault).into_http();
                Box::pin(async { Ok(refusal) })
            }
        }
    }
}

fn check(caller: Option<&Caller>, path: &str) -> Result<(), Fault> {
    match caller {
        Some(Caller::Local { .. } | Caller::Remote { role: Role::Operator }) => Ok(()),
        Some(Caller::Remote { role: Role::Viewer }) if !writes(path) => Ok(()),
        Some(Caller::Remote { role: Role::Viewer }) => {
            let method = path.rsplit('/').next().unwrap_or(path);
            let message = format!("a viewer may not call {method}");
            Err(Fault::new(Code::PermissionDenied, "ROLE_TOO_LOW", message)
                .object(path.trim_start_matches('/'))
                .fix("use a certificate of role operator: weir pki issue DIR --role operator"))
        }
        None => Err(Fault::new(Code::Unauthenticated, "UNKNOWN_CALLER", "who calls is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_looks_and_an_operator_changes() {
        let viewer = Caller::Remote { role: Role::Viewer };
        let operator = Caller::Remote { role: Role::Operator };
        for (path, changes) in [
            ("/weir.v1.ScaleService/Scale", true),
            ("/weir.v1.ScaleService/PlanScale", false),
            ("/weir.v1.StatsService/WatchStats", false),
            ("/weir.v1.RouteService/AddRoute", true),
            ("/grpc.health.v1.Health/Check", false),
            ("/somebody.Else/GetThing", true),
        ] {
            assert_eq!(writes(path), changes, "{path}");
            assert_eq!(check(Some(&viewer), path).is_err(), changes, "{path}");
            assert_eq!(check(Some(&operator), path), Ok(()));
            assert_eq!(check(None, path).unwrap_err().code, Code::Unauthenticated);
        }
    }
}
