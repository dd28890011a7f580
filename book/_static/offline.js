// A browser does not let a page on disk fetch its neighbours, which search does for its excerpts.
// From disk, search lists titles alone; from a server it shows excerpts as well.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
