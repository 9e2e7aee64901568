//! What routes and policies are made of, as it changes: files and URLs today, names in DNS later.

pub mod file;
pub mod system_roots;
pub mod url;
