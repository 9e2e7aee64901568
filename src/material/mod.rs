//! What routes and policies are made of, as it changes: files and names in DNS today, URLs later.

pub mod dns;
pub mod file;
pub mod system_roots;
