//! The end-to-end tests are in `e2e/`; this package has no library.
