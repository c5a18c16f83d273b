//! A small certificate authority for the TCP address of the API.
//!
//! The directory holds `ca.crt` and `ca.key`, and `NAME.crt` and `NAME.key` for each certificate
//! issued. The directory has mode 0700 and every file 0600.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};

use crate::listen::{Role, node_uri};

const DAY: Duration = Duration::from_secs(24 * 3_600);
const CA_DAYS: u32 = 3_650;
const CERTIFICATE_DAYS: u32 = 365;
/// The name of every authority; certificates chain to it by key.
const CA_NAME: &str = "Weir certificate authority";

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The sidecar's side; callers check its names.
    Server,
    /// A caller with this role.
    Caller(Role),
    /// The sidecar of a node that moves state to others: its server's side, and a caller that is
    /// the node of the certificate's name.
    Node,
}

/// Why the authority did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// There is an authority already; it would be lost.
    #[error("{} exists already; nothing was changed", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name is not one that a file or a certificate can have.
    #[error("{0:?} is not a name: letters, digits, '-', '_' and '.' are")]
    Name(String),
    /// A server's certificate without a name that callers could check.
    #[error(
        "a server's certificate needs at least one --san, the name or address it is reached by"
    )]
    NoSan,
    /// The library refused.
    #[error("cannot make the certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Makes the directory and an authority in it that lasts ten years from `now`.
///
/// # Errors
/// When there is one already or the files cannot be written.
pub fn init(directory: &Path, now: SystemTime) -> Result<(), PkiError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| PkiError::File { path: directory.to_owned(), source })?;
    if directory.join("ca.key").exists() {
        return Err(PkiError::Exists(directory.join("ca.key")));
    }
    let key = KeyPair::generate()?;
    let certificate = authority(now).self_signed(&key)?;
    write_new(&directory.join("ca.key"), &key.serialize_pem())?;
    write_new(&directory.join("ca.crt"), &certificate.pem())
}

/// Issues a certificate for a year from `now` and writes it and its key beside the authority.
///
/// # Errors
/// When the authority or a name is missing, the files exist, or cannot be written.
pub fn issue(
    directory: &Path,
    name: &str,
    purpose: Purpose,
    sans: &[String],
    now: SystemTime,
) -> Result<(), PkiError> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || name == "ca" || !name.chars().all(sound) {
        return Err(PkiError::Name(name.to_owned()));
    }
    if !matches!(purpose, Purpose::Caller(_)) && sans.is_empty() {
        return Err(PkiError::NoSan);
    }
    let ca_key = directory.join("ca.key");
    let pem =
        fs::read_to_string(&ca_key).map_err(|source| PkiError::File { path: ca_key, source })?;
    let issuer = Issuer::new(authority(now), KeyPair::from_pem(&pem)?);
    let mut params = CertificateParams::new(sans)?;
    params.distinguished_name = named(name);
    validity(&mut params, now, CERTIFICATE_DAYS);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    match purpose {
        Purpose::Server => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        Purpose::Node => {
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.subject_alt_names.push(SanType::URI(Ia5String::try_from(node_uri(name))?));
        }
        Purpose::Caller(role) => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.subject_alt_names.push(SanType::URI(Ia5String::try_from(role.uri())?));
        }
    }
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    write_new(&directory.join(format!("{name}.key")), &key.serialize_pem())?;
    write_new(&directory.join(format!("{name}.crt")), &certificate.pem())
}

fn authority(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(CA_NAME);
    validity(&mut params, now, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A day before `now`, for clocks that differ, to so many days after.
fn validity(params: &mut CertificateParams, now: SystemTime, days: u32) {
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
}

fn write_new(path: &Path, text: &str) -> Result<(), PkiError> {
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists(path.to_owned()),
        _ => PkiError::File { path: path.to_owned(), source },
    })
}
