(function () {
  'use strict';
  // Without this script the form works by itself. It shows how far the files are, and keeps the text in this tab while it is not sent.
  var form = document.getElementById('reponse');
  if (!form || !window.FormData || !window.XMLHttpRequest) return;
  var text = document.getElementById('texte'), say = document.getElementById('suivi'), bar = document.getElementById('avance');
  var button = form.querySelector('button'), key = 'reponse-' + form.getAttribute('data-cle'), busy = false;
  function keep(s) {
    try { if (s) sessionStorage.setItem(key, s); else sessionStorage.removeItem(key); } catch (e) { /* the browser keeps nothing */ }
  }
  if (form.hasAttribute('data-envoye')) keep('');
  try { if (!text.value) text.value = sessionStorage.getItem(key) || ''; } catch (e) { /* the same */ }
  text.addEventListener('input', function () { keep(text.value); });
  var leave = document.querySelector('form.leave');
  if (leave) leave.addEventListener('submit', function () { keep(''); });
  function ended(words) {
    busy = false;
    button.disabled = false;
    bar.hidden = true;
    say.textContent = words;
    say.className = 'note bad';
    say.setAttribute('tabindex', '-1');
    say.focus();
  }
  form.addEventListener('submit', function (e) {
    e.preventDefault();
    if (busy) return;
    busy = true;
    keep(text.value);
    var x = new XMLHttpRequest(), cut = function () { ended(say.getAttribute('data-coupe')); };
    x.open('POST', form.action);
    x.responseType = 'document';
    x.upload.onprogress = function (p) { if (p.lengthComputable) bar.value = 100 * p.loaded / p.total; };
    x.onerror = x.onabort = x.ontimeout = cut;
    x.onload = function () {
      var page = x.response, fault = page && page.getElementById('faute');
      if (x.status === 200 && page && page.querySelector('[data-envoye]')) {
        keep('');
        location.assign(x.responseURL);
      } else if (x.status === 403 && page && page.getElementById('code')) { // the code is asked for again; the text stays in this tab
        location.reload();
      } else if (fault) {
        ended(fault.getAttribute('data-ici') || fault.textContent); // on this page the files are still chosen
      } else cut();
    };
    var data = new FormData(form);
    button.disabled = true;
    bar.hidden = false;
    bar.value = 0;
    say.className = '';
    say.textContent = say.getAttribute('data-envoi');
    x.send(data);
  });
})();
