//! What routes and policies are made of, as it changes: files, URLs and names in DNS.

pub mod dns;
pub mod file;
pub mod system_roots;
pub mod url;
