//! Why the sidecar cannot be reached, and what mends that, by kind.

use std::{
    error::Error,
    io::{self, ErrorKind},
};

use rustls::CertificateError;
use tonic::Code;
use weir_api::causes::root_cause;
use weir_control::fault::Fault;

/// What an attempt to reach the sidecar failed on.
enum Cause<'e> {
    Tls(&'e rustls::Error),
    System(ErrorKind),
    Other,
}

/// The fault of a connection that was not made, or that broke.
pub(crate) fn fault(server: &str, error: &(dyn Error + 'static)) -> Fault {
    let why = root_cause(error);
    let over_tcp = server.starts_with("https://");
    let (code, reason, what, fix) = match cause(error) {
        Cause::Tls(error) => (Code::Unavailable, "TLS_FAILED", NO_TLS, tls_fix(error)),
        // HTTP/2 keeps the words of an error only: in TLS 1.3 the server looks at our certificate
        // when we have sent our first request already.
        Cause::System(ErrorKind::InvalidData) if over_tcp => {
            (Code::Unavailable, "TLS_FAILED", NO_TLS, OUR_CERTIFICATE)
        }
        Cause::System(ErrorKind::PermissionDenied) => (
            Code::PermissionDenied,
            "SOCKET_DENIED",
            "not allowed to reach the sidecar at",
            if over_tcp { FIREWALL } else { DENIED },
        ),
        Cause::System(kind) => {
            (Code::Unavailable, "SIDECAR_UNREACHABLE", CANNOT, system_fix(kind, over_tcp))
        }
        Cause::Other => (Code::Unavailable, "SIDECAR_UNREACHABLE", CANNOT, closed_fix(over_tcp)),
    };
    Fault::new(code, reason, format!("{what} {server}: {why}")).object(server).fix(fix)
}

fn cause<'e>(error: &'e (dyn Error + 'static)) -> Cause<'e> {
    let mut found = Cause::Other;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // An error in an I/O error is not among its causes.
            if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
                return Cause::Tls(tls);
            }
            found = Cause::System(error.kind());
        }
        next = error.source();
    }
    found
}

const CANNOT: &str = "cannot reach the sidecar at";
const NO_TLS: &str = "no TLS with the sidecar at";
const DENIED: &str = "its socket lets in root and the user that runs weir-control: use sudo, or run \
                      weir as that user";
const FIREWALL: &str = "a firewall of this machine refuses the connection: let it through";

const OUR_CERTIFICATE: &str = "the sidecar refuses our certificate: --tls-cert and --tls-key \
                               must be issued by the ca of its [control.tls], for --role operator \
                               or viewer";

fn system_fix(kind: ErrorKind, over_tcp: bool) -> &'static str {
    match (kind, over_tcp) {
        (ErrorKind::NotFound | ErrorKind::ConnectionRefused, false) => {
            "nobody listens there: start weir-control --config FILE; where [control] sets another \
             socket, give it with --server"
        }
        (ErrorKind::ConnectionRefused, true) => {
            "nobody listens there: start weir-control with this address as listen in [control]"
        }
        (ErrorKind::InvalidInput, true) => "write --server https://HOST:PORT",
        (
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe,
            _,
        ) => closed_fix(over_tcp),
        (_, true) => "see that the host of --server is right and that the network leads there",
        (_, false) => "see that --server is the socket of [control]",
    }
}

/// What mends a connection that the sidecar closed.
fn closed_fix(over_tcp: bool) -> &'static str {
    if over_tcp {
        "the sidecar closed the connection, as it does on a certificate that it does not accept: \
         --tls-cert and --tls-key must be issued by the ca of its [control.tls], for --role \
         operator or viewer"
    } else {
        "the sidecar closed the connection: it lets in root and its own user; see that it runs, \
         and what its log says"
    }
}

fn tls_fix(error: &rustls::Error) -> &'static str {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    match error {
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "reach it by a name that its certificate has, or issue one for this name: weir pki \
             issue DIRECTORY --name NAME --role server --san HOST"
        }
        InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => {
            "the sidecar's certificate is not valid today: issue another with weir pki issue, or \
             set the clock"
        }
        InvalidCertificate(_) => {
            "--tls-ca must be the authority that issued the sidecar's certificate: the ca.crt \
             beside it"
        }
        AlertReceived(_) => OUR_CERTIFICATE,
        _ => "see that --server is the address that listen in [control] gives, where TLS is spoken",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_that_of_the_kind_of_error() {
        let (unix, tcp) = ("unix:///run/weir/control.sock", "https://edge:7443");
        let tls = |error: rustls::Error| io::Error::new(ErrorKind::InvalidData, error);
        for (server, error, reason, says) in [
            (
                unix,
                ErrorKind::NotFound.into(),
                "SIDECAR_UNREACHABLE",
                "start weir-control --config",
            ),
            (
                unix,
                ErrorKind::ConnectionRefused.into(),
                "SIDECAR_UNREACHABLE",
                "start weir-control --config",
            ),
            (unix, ErrorKind::PermissionDenied.into(), "SOCKET_DENIED", "root and the user"),
            (unix, ErrorKind::ConnectionReset.into(), "SIDECAR_UNREACHABLE", "its own user"),
            (
                tcp,
                ErrorKind::ConnectionRefused.into(),
                "SIDECAR_UNREACHABLE",
                "listen in [control]",
            ),
            (
                tcp,
                ErrorKind::UnexpectedEof.into(),
                "SIDECAR_UNREACHABLE",
                "that it does not accept",
            ),
            (tcp, ErrorKind::HostUnreachable.into(), "SIDECAR_UNREACHABLE", "the network leads"),
            (tcp, tls(CertificateError::UnknownIssuer.into()), "TLS_FAILED", "--tls-ca must"),
            (tcp, tls(CertificateError::NotValidForName.into()), "TLS_FAILED", "--san HOST"),
            (tcp, ErrorKind::InvalidData.into(), "TLS_FAILED", "--tls-cert and --tls-key"),
            (tcp, tls(CertificateError::Expired.into()), "TLS_FAILED", "not valid today"),
            (
                tcp,
                tls(rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA)),
                "TLS_FAILED",
                "--tls-cert and --tls-key",
            ),
        ] {
            let error: io::Error = error;
            let fault = fault(server, &error);
            assert_eq!(fault.reason, reason, "{fault:?}");
            assert!(fault.fix.contains(says), "{fault:?}");
            let nobody_listens = says.contains("start weir") || says.contains("listen in");
            assert_eq!(fault.fix.contains("start weir"), nobody_listens, "{fault:?}");
        }
    }
}
