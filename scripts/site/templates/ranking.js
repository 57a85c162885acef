
/* Results with every word before all others; the five best pages to read before members of modules. */
window.pdocSearch = (found => term => {
    const words = term.toLowerCase().split(/\s+/).filter(word => word);
    const guide = doc => /^(questions|rlopt\.guide\.(?!presets\.))/.test(doc.fullname) && !doc.qualname;
    const page = doc => guide(doc) || /^(index|experiments|rlopt\.guide\.presets\.)/.test(doc.fullname) && !doc.qualname;
    const all = found(term).map(result => {
        const text = (result.doc.fullname + " " + result.doc.doc).toLowerCase();
        const whole = words.every(word => text.includes(word));
        return {...result, score: result.score * (guide(result.doc) ? 3 : 1) + (whole ? 1000 : 0)};
    }).sort((a, b) => b.score - a.score);
    const first = all.filter(result => page(result.doc)).slice(0, 5);
    return [...first, ...all.filter(result => !first.includes(result))];
})(window.pdocSearch);
