//! Connections that move between two hosts.
