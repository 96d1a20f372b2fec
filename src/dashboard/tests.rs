//! The page as it is made.
