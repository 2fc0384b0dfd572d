// Takes the code of a login link out of the address, so that neither the history nor a reload has it.
"use strict";
const code = location.hash.slice(1);
if (code && document.getElementById("by-link")) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("code").value = code;
  document.getElementById("by-link").hidden = false;
  document.getElementById("by-token").hidden = true;
  document.getElementById("enter").focus();
}
