//! JSON at the byte: find members, splice, edit and watch bodies that pass, without building a tree.

mod scan;
mod columns;
mod packer;
mod spans;
mod splice;
mod mask;
mod editor;
mod watcher;

pub use columns::RowColumns;
pub(crate) use editor::{Edit, Editor};
pub(crate) use mask::Mask;
pub(crate) use packer::Packer;
pub(crate) use spans::{Members, check_plain, members};
pub(crate) use splice::Splice;
pub(crate) use watcher::Watcher;
