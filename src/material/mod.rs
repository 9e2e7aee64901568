//! What routes and policies are made of, as it changes: files, URLs and names in DNS; and the system's store of CAs.

pub mod dns;
pub mod file;
pub mod system_roots;
pub mod system_store;
pub mod url;
