
/* Pages to read come before members of modules; results with every word before all others. */
window.pdocSearch = (found => term => {
    const words = term.toLowerCase().split(/\s+/).filter(word => word);
    const all = found(term).map(result => {
        const text = (result.doc.fullname + " " + result.doc.doc).toLowerCase();
        const page = /^(index|questions|experiments|rlopt\.guide\.)/.test(result.doc.fullname) && !result.doc.qualname;
        const whole = words.every(word => text.includes(word));
        return {...result, score: result.score * (page ? 8 : 1) + (whole ? 1000 : 0)};
    });
    return all.sort((a, b) => b.score - a.score);
})(window.pdocSearch);
